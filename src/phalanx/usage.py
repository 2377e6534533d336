"""What ``--help`` prints, command by command; `cli` reads nothing else to print it."""

MAIN = """\
phalanx: segmentation of overlapping bones in hand X-rays, from fold training to the voted submission

  phalanx train fold=0..4 experiment=NAME data=NAME key=value ...    train folds; the same call continues
  phalanx infer experiment=NAME[,NAME...] key=value ...              predict the test set: one CSV a run
  phalanx ensemble mode=soft|hard members=A,B,C out=FILE.csv ...     vote runs, maps and CSVs
  phalanx export RUN [out=DIR]                                       a run as ONNX files, predicted without torch
  phalanx score FILE ANSWERS [--json FILE]                           mean Dice, per class, patient bootstrap
  phalanx compare A B ANSWERS                                        the difference of two, paired by patient
  phalanx decide members=A,B [out=FILE.json]                         weights, thresholds, cleaning, out of fold
  phalanx ledger add RUN|FILE.csv [score=0.976]                      keep a run or submission in submissions/ledger.csv
  phalanx leaderboard                                                what the ledger holds, the best first
  phalanx phantom hand --patients N --size S --seed K --out DIR      make a synthetic data set
  phalanx folds data=NAME out=FILE.csv                               fix the folds of a data set in a file
  phalanx eda data=NAME data.root=DIR out=DIR                        rotation, train/test shift, sizes, odd images
  phalanx check data=NAME data.root=DIR [--quarantine FILE]          find what is wrong with a data set
  phalanx quarantine data.root=DIR data.drop.RULE=... out=FILE       list the training images that a rule drops
  phalanx plan experiment=NAME key=value ... [vram=24]               parameters, multiply-adds, memory, what fits
  phalanx picture FILE ANSWERS IMAGES --out FILE.png                 predictions beside truth
  phalanx sweep TABLE [scale=small] [seeds=0,1]                      train the published variants that have no result
  phalanx claims                                                     published beside ours: docs/results.md
  phalanx demo [quick=true]                                          the whole job on synthetic hands

`phalanx COMMAND --help` tells the options of each. The scripts train.sh, infer.sh, ensemble.sh and demo.sh prepare
the environment and call these.
"""

TRAIN = """\
phalanx train key=value ...        (bash train.sh key=value ...)

  fold=0..4              folds to train: 0, or 0,2, or 0..4, or all (fit on everything, nothing held out)
  experiment=NAME        recipe in configs/experiment/ (default: base)
  name=NAME              the run's folder in runs/ (default: the experiment's name)
  data=NAME              configs/data/: hand, teeth; data.root=/path/to/dataset names your images
  data.layout=competition|coco|masks   how they lie there; data.crop=1024 trains on windows
  data.oversample.rotated=10  data.drop.bright=1.5   how often training images are shown, and which not at all
  model= loss= augment= optim=   a file of that folder of configs/
  any.key=value          every key of src/phalanx/config/: epochs=50 batch=2 data.size=1024 model.weights=none
                         optim.lr=3e-4 precision=auto|32|bf16|fp16 device=auto|cpu|cuda:1 accumulate=4
  on_nan=stop|skip|halve   a step that is not finite ends training, is left out, or halves the learning rate as well
  devices=0,1,2,3        folds side by side, one a GPU (or devices=cpu,cpu), and a table; exit code 1 if one fails
  max_hours=10           stop this call in time, whole, with an exit code above 0; the same command continues
  devices=0,1 ddp=true   each fold on all these GPUs: every step's images are shared out, `batch` keeps its meaning
                         (each process has its own data.cache=ram; data.cache=disk is one for all)

Killed at any moment, the same command continues; a finished fold is left as it is. Where memory does not suffice,
fewer images are computed at a time, in steps of as many as before.
Writes runs/<name>/fold<k>/: config.yaml folds.csv log.jsonl last/ best/ final/ oof.csv oof_score.json
"""

INFER = """\
phalanx infer experiment=NAME[,NAME...] key=value ...        (bash infer.sh key=value ...)

  experiment=A,B         runs to predict with (all their folds, averaged): one submissions/<run>.csv each; or folders
                         of phalanx export, on the CPU by onnxruntime alone
  out=FILE.csv           where to, for a single run (default: submissions/<run>.csv)
  data.root=DIR          data set whose test images are predicted (default: the run's own)
  images=DIR             predict every image below a plain folder instead
  maps=true              also keep probability maps (submissions/<run>.maps/), for soft votes without the models
  weights=final|best|last   which weights (best was chosen on the held-out fold, so its scores are optimistic; last
                         are those of the last checkpoint, of a run that is unfinished)
  tta=hflip,vflip,rotate average over mirrored views and those turned by 90 degrees, in all combinations
  grid=2048              long side of the image when it is predicted (default: data.size of the run)
  scales=0.75,1,1.25     average over several such sizes
  window=1024            predict windows of that side instead of the whole, blended by Gaussians; or
                         window={size:1024,stride:512,skip:true}: skip leaves out those with nothing brighter than air
  workers=2              processes that share the images; devices=0,1 gives them GPUs in turn
  threshold=0.5  batch=4 (images or windows at once)  device=auto  precision=auto  runs=runs  progress=true
  decided=FILE.json      thresholds by class and cleaning that `phalanx decide members=NAME` kept

Options of prediction that are not given are the run's own (predict.* in training). Killed at any moment, the same
command goes on after the images that are done; with other members, options or images it begins anew.
"""

ENSEMBLE = """\
phalanx ensemble mode=soft|hard members=A,B,C out=FILE.csv key=value ...        (bash ensemble.sh key=value ...)

  mode=soft              mean of probabilities; members: run names, run folders, folders of phalanx export or of
                         probability maps
  average=members|flat   a run's folds first, then members (default), or every fold the same (soft)
  mode=hard              majority of masks; members: all of those, and submission CSVs
  quorum=K               votes a pixel needs (hard; default: more than half, so a tie is background; quorum=1 is the
                         union, the number of members the intersection)
  weights=2,1,1          votes of each member, whole numbers (votes=2,1,1 is the same; weights=best: see below)
  decided=FILE.json      what `phalanx decide` kept for these members: weights, thresholds, cleaning (soft)
  anyway=true            go on although a member is misaligned: shifted, mirrored, under other classes or image names
  out=FILE.csv           default: submissions/<mode>.csv
  size=HxW               image size of CSV members without a sidecar, or images=DIR to look there (hard)
  data.root= images= maps= weights= tta= grid= scales= window= threshold= batch= device= devices= workers= precision=
  runs= progress=        as for infer; stored maps alone need neither the runs nor the images

Prints how members agree, and keeps it in FILE.json. Killed or stopped at a misaligned member, the same command goes on.
"""

EXPORT = """\
phalanx export RUN|FOLD [out=DIR] key=value ...

Writes a folder that phalanx infer and ensemble take instead of the run (experiment=DIR), on the CPU and without
loading torch: an ONNX file a fold, PointRend included, and export.json, which tells how images are prepared and masks
made, with hashes of all files. Each network is compared with PyTorch on noise and on the first image to predict;
coarse logits that differ by more than 0.0001 (on large pictures twice PyTorch's own distance from 64 bits, where
that is more), or masks in more than 0.01% of the pixels, end the export.

  RUN                    a run's name or folder, or the folder of one fold
  out=DIR                must not exist (default: exports/<run>)
  weights=final|best|last   which weights, as for infer
  data.root=DIR          where the image to compare on lies (default: the run's own), or images=DIR of a plain folder
  runs=DIR               where runs lie (default: runs)

Needs onnx, onnxscript and onnxruntime (setup.sh installs them; else: pip install '.[onnx]'). Predicting needs
onnxruntime alone. The size of the pictures is fixed, by the run's data.size and predict.*; of the options of infer,
tta=, threshold=, batch= and workers= are free. Runs told of the patient (model.metadata) cannot be exported.
"""

SCORE = """\
phalanx score FILE.csv [ANSWERS] [key=value ...] [--json FILE] [--partial]

  ANSWERS                polygon JSON (<patient>/<image>.json below a folder), a COCO file, a folder of PNG masks, or
                         another submission CSV (which tells no patients: intervals are then over images, and too
                         narrow); without it the annotated images of data.root=DIR
  data=NAME              classes of a CSV without sidecar (configs/data/)
  data.layout= data.coco.group= data.masks.kind= ...     how answers of these kinds lie, as for training
  size=HxW               image size of a CSV without sidecar
  surface=2              also surface Dice at this tolerance in pixels, and the 95% Hausdorff distance
  spacing=0.14           mm a pixel, to tell these in mm too
  --json FILE            write every number
  --partial              FILE holds some of the answered images (an out-of-fold CSV): score those
"""

COMPARE = """\
phalanx compare A.csv B.csv ANSWERS [key=value ...] [--json FILE] [--partial]
phalanx compare runs/A runs/B [--json FILE]

Scores both as phalanx score does (same options but surface= and spacing=), or takes two runs' out-of-fold scores, and
compares them in pairs: difference by class and in all with a 95% interval over patients, and the chance of so large a
difference between equals, by patients' signs drawn anew.
"""

DECIDE = """\
phalanx decide members=A,B,C [out=submissions/decided.json]

Asks the out-of-fold maps of 1 to 8 runs (trained with predict.oof_prob=true on the same folds) which of these gain,
each fitted on all folds but one and scored on that one:

  members                greedy forward selection among the members
  weights                votes of each member, the best of up to 255 proportions
  thresholds             a threshold for each class, .05 to .95
  smallest               parts of a class's mask below 16, 64, 256 or 1024 pixels removed
  largest                only a class's largest part kept
  holes                  a class's holes filled

A class or member departs from the default only where that is 3 standard errors better in the folds it is fitted on. A
choice is kept where the cross-fitted gain in mean Dice is .0001 or more and its 95% interval over patients lies above
0; the Dice fitted and scored on the same images stands beside it. infer and ensemble mode=soft apply the file with
decided=FILE.

  out=FILE.json          where to
  data.root=DIR          where the training images lie now
  runs=runs  progress=true
"""

LEDGER = """\
phalanx ledger add RUN|FILE.csv [score=0.976] [note=TEXT] [ledger=FILE]

Adds a run's folder (no fold half done) or a submission to submissions/ledger.csv. Runs in runs/ with all their folds,
and votes into submissions/, are added by themselves. What stands there already takes the score or note.

  score=0.976            what the leaderboard said
  note=TEXT              in your words
  ledger=FILE            another ledger
"""

LEADERBOARD = """\
phalanx leaderboard [ledger=FILE]

Prints submissions/ledger.csv: by the leaderboard's score where it was told, then by out-of-fold Dice.
"""

PHANTOM = """\
phalanx phantom hand --patients N --size S --seed K --out DIR [--test-patients M] [--workers W]

  --patients N           patients in train, two hands each
  --test-patients M      patients in test (default: a quarter of N), half of them rotated
  --size S               side of the images, 128 to 2048 pixels (default 512)
  --seed K               same seed, same files (default 0)
  --out DIR              made anew; must not exist
  --workers W            processes (default: all cores); the files do not depend on it
"""

FOLDS = """\
phalanx folds data=NAME data.root=DIR out=folds/NAME.csv [stratify=sex,rotated] [folds=5] [seed=0]

Draws patient-grouped folds once into a file; train uses it with data.folds_file=FILE. Never overwrites. Prints the
images, the patients and the share of every stratum in each fold.

  stratify=A,B           spread these evenly: sex, age, height, weight of the metadata sheet, and rotated, which is
                         measured on the annotations; numbers are taken in thirds, missing values as a stratum
"""

EDA = """\
phalanx eda data=NAME data.root=DIR out=DIR [csv=FILE.csv] [workers=N] [progress=true]

Looks at a data set: rotation of the hands, shift from train to test with effect sizes, area of the bones against the
metadata, overlaps between classes, bright outliers, bands of noise. Says what it leaves out, and why.

  out=DIR                tables (images shift size classes overlap .csv), eda.json, plots (.png)
  csv=FILE.csv           predictions, of the test set or out of fold, whose rotation is measured too
  workers=N              processes (default: all cores)
"""

CHECK = """\
phalanx check data=NAME data.root=DIR [--json FILE] [--quarantine FILE]

Reads every image and annotation and lists what is wrong: unreadable, blank or doubled images, test images in train,
look-alikes of other patients, bad polygons and masks, unknown or missing labels, labels in each other's place, bones
of odd place or size, files without partner, patients without metadata. Notes rings, implants, collimator edges and
bands of noise. Exits 1 where there are errors.

  data.layout=           competition, coco or masks, with their names as for training
  --json FILE            where every problem is written (default: check.json)
  --quarantine FILE      write the training images with errors there; must not exist. Train without them with
                         data.quarantine=FILE
  data.quarantine=FILE   images to pass over here too, so that what is settled is not told again
  data.skip_unlabelled=true   images without annotation are no error
  workers=N              processes (default: all cores)      progress=false   no progress bar
"""

QUARANTINE = """\
phalanx quarantine data=NAME data.root=DIR out=FILE data.drop.RULE=...

Writes the training images that a rule drops, each with its reason, into a text file to look through and edit. Train
without what is left in it with data.quarantine=FILE. (data.drop=... in train applies the rule itself, to the training
part of each fold alone; a quarantined image is left out of the scores too.)

  data.drop.bright=1.5                  share of pixels >= 240 from so many quartile distances above the upper quartile
  data.drop.dice.run=NAME               out-of-fold Dice in this finished run: with
    data.drop.dice.worst=20             the 20 lowest, or
    data.drop.dice.below=0.9            all below .9
  out=FILE                              must not exist; lines of data.quarantine=OTHER come along
"""

PLAN = """\
phalanx plan experiment=NAME key=value ... [vram=24] [measure=true] [--json FILE]

Tells what a recipe costs before it is trained, from the keys of phalanx train: parameters and multiply-adds of
encoder, decoder and heads, and the peak memory of a training step. On a GPU real steps are measured; without one the
step is played on tensors without data, and the text says which. With ddp=true it is that of one of the devices.

  vram=24                GiB of a GPU: look for the largest batch at 512, 1024, 2048 and the recipe's size, and for
                         the largest size at the recipe's batch
  measure=true           run real steps on the CPU, too, where there is no GPU
  --json FILE            write every number; memory in bytes
"""

PICTURE = """\
phalanx picture FILE.csv ANSWERS IMAGES --out FILE.png [--rows N]

  IMAGES                 folder with the images (searched below)
  --rows N               images shown, the worst, the best and between (default 4): image, truth, prediction
"""

SWEEP = """\
phalanx sweep TABLE ... [scale=small] [seeds=0,1] [rows=A,B] [fold=0] key=value ...

Trains the rows of configs/sweep/TABLE.yaml (or `all`) that have no result yet, on a baseline that all tables share:
all rows with the first seed, then with the next. Killed anywhere, the same command continues. A row that fails is
told, the others go on; exits 1 then. Writes results/sweep/<scale>/<data set>/<table>/<row>.seed<s>.fold<k>.json.

  scale=NAME             the baseline, configs/experiment/claims_NAME.yaml: small takes 100 s a training on one core,
                         full is the published size, on data.root=DIR
  seeds=0,1,2            each draws its own folds, start and augmentation
  rows=A,B               only these rows (of one table)
  fold=0..4              held-out folds a seed (default: 0)
  device= workers= data.root= progress= ...      runtime keys of phalanx train
  runs=DIR               where the runs lie (default: runs/sweep)
"""

CLAIMS = """\
phalanx claims [out=docs/results.md]

Writes what was published about each row of configs/sweep/ beside what results/sweep/ holds: Dice with its spread over
seeds, the gain over the row it is against with an interval over seeds and patients, and the verdict: agrees,
disagrees, undecided or not run. A result by another recipe than the present one is listed and not counted.

  out=FILE.md            another file
"""

DEMO = """\
phalanx demo [quick=true]        (bash demo.sh [quick=true])

Makes synthetic hands, trains two encoder/decoder pairs on two folds each, predicts unseen patients, votes soft and
hard, scores everything: runs/demo/summary.json and runs/demo/picture.png. quick=true is a tiny one for a smoke test.
"""
