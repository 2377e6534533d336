"""What each command does for each task: the only place that knows all tasks."""

from .task_classify import CLASSIFY
from .task_commands import TaskCommands
from .task_detect import DETECT
from .task_restore import RESTORE
from .task_segment import SEGMENT

TASKS: dict[str, TaskCommands] = {"segment": SEGMENT, "classify": CLASSIFY, "detect": DETECT, "restore": RESTORE}
