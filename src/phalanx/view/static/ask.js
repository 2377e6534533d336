// Requests to the server of this page; what it refuses becomes an Error with its words.

async function answer(response) {
  if (!response.ok) throw new Error((await response.text()).trim() || `error ${response.status}`);
  return response;
}

export const json = async (path) => (await answer(await fetch(path))).json();
export const bytes = async (path) => (await answer(await fetch(path))).arrayBuffer();
export const send = async (path, body, headers = {}) =>
  (await answer(await fetch(path, { method: "POST", body, headers }))).json();

// The last few answers, so that neighbours can be asked for ahead.
//   most: of the sum of their weights; weigh: of an answer.
export class Store {
  constructor(most, load, weigh = () => 1) {
    Object.assign(this, { most, load, weigh, held: new Map() });
  }
  // Further arguments are for load alone.
  get(key, ...more) {
    let found = this.held.get(key);
    if (found) this.held.delete(key);
    else {
      found = { value: this.load(key, ...more), weight: 0 };
      found.value.then(
        (value) => { found.weight = this.weigh(value); this.trim(); },
        () => { if (this.held.get(key) === found) this.held.delete(key); },
      );
    }
    this.held.set(key, found);
    return found.value;
  }
  trim() {
    let sum = 0;
    for (const [key, { weight }] of [...this.held].reverse()) {
      if (sum && sum + weight > this.most) this.held.delete(key);
      else sum += weight;
    }
  }
}

// Decoded when it is there, so that drawing it does not wait.
export const picture = async (path) => createImageBitmap(await (await answer(await fetch(path))).blob());
