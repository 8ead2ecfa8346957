/**
 * The catalogue of errors: the one definition of each code and, at the same time, its documentation
 * (`docs/reference/errors.md` is generated from it). Codes are stable; texts may improve. Edges translate: protocol maps
 * a code to a gRPC status, a FUSE server to `errno`, the CLI to an exit code. Nobody matches message text.
 */

export interface ErrorEntry {
  /** What happened, for a person. */
  readonly meaning: string;
  /** What to do next. */
  readonly todo: string;
  /** Name of the errno that a file system answers. */
  readonly errno: string;
  /** gRPC status name. */
  readonly grpc: string;
  /** Exit code of the CLI: 1 failure, 2 usage, 3 not found, 4 denied, 5 unavailable or timed out, 6 no space, 7 damaged data. */
  readonly exit: 1 | 2 | 3 | 4 | 5 | 6 | 7;
}

const entry = (errno: string, grpc: string, exit: ErrorEntry['exit'], meaning: string, todo: string): ErrorEntry => ({
  errno,
  grpc,
  exit,
  meaning,
  todo,
});

export const ERROR_CODES = {
  // Names and the tree
  not_found: entry(
    'ENOENT',
    'NOT_FOUND',
    3,
    'No such file, directory, node, realm or context.',
    'Check the name; `collective ls` or the matching list command shows what exists.',
  ),
  exists: entry(
    'EEXIST',
    'ALREADY_EXISTS',
    1,
    'Something of that name exists already.',
    'Choose another name, or remove or replace the old one.',
  ),
  not_directory: entry(
    'ENOTDIR',
    'FAILED_PRECONDITION',
    1,
    'A part of the path is not a directory.',
    'Check the path.',
  ),
  is_directory: entry(
    'EISDIR',
    'FAILED_PRECONDITION',
    1,
    'The path is a directory where a file is needed.',
    'Name a file, or use the recursive form of the command.',
  ),
  not_empty: entry(
    'ENOTEMPTY',
    'FAILED_PRECONDITION',
    1,
    'The directory is not empty.',
    'Remove what is in it first, or use `rm -r`.',
  ),
  name_too_long: entry(
    'ENAMETOOLONG',
    'INVALID_ARGUMENT',
    2,
    'A name has more than 255 bytes or a path more than 4096.',
    'Use a shorter name; bytes of UTF-8 count, not characters.',
  ),
  invalid_name: entry(
    'EINVAL',
    'INVALID_ARGUMENT',
    2,
    "A name is empty, '.', '..', holds '/' or NUL, or is not UTF-8.",
    'Use another name.',
  ),
  too_many_links: entry(
    'EMLINK',
    'FAILED_PRECONDITION',
    1,
    'The inode has the largest number of hard links already.',
    'Copy the file instead.',
  ),
  too_many_symlinks: entry(
    'ELOOP',
    'FAILED_PRECONDITION',
    1,
    'The path goes through more than 40 symbolic links.',
    'Look for a circle of links.',
  ),
  cross_realm: entry(
    'EXDEV',
    'FAILED_PRECONDITION',
    1,
    'A file cannot be moved or linked from one realm into another (M9): each realm has its own quota and rights.',
    'Copy it and remove the original; `mv` of the CLI does so with --copy.',
  ),
  stale: entry('ESTALE', 'NOT_FOUND', 3, 'The inode was removed since it was looked up.', 'Look the path up again.'),
  no_attribute: entry(
    'ENODATA',
    'NOT_FOUND',
    3,
    'The extended attribute is not set.',
    'List the attributes of the file.',
  ),
  busy: entry(
    'EBUSY',
    'FAILED_PRECONDITION',
    1,
    'The object is in use and cannot be changed now.',
    'Try again later, or end its use.',
  ),
  // Arguments
  invalid_argument: entry(
    'EINVAL',
    'INVALID_ARGUMENT',
    2,
    'An argument is not valid; the message names it.',
    'Correct the argument.',
  ),
  range: entry(
    'ERANGE',
    'INVALID_ARGUMENT',
    2,
    'A value is larger than its bound; the message names both.',
    'Use a smaller value.',
  ),
  too_large: entry('EFBIG', 'INVALID_ARGUMENT', 1, 'The file would become larger than 16 TiB.', 'Split the file.'),
  unsupported: entry(
    'EOPNOTSUPP',
    'UNIMPLEMENTED',
    1,
    'The operation is not supported here, or not by this version.',
    'See docs/semantics.md.',
  ),
  config_invalid: entry(
    'EINVAL',
    'INVALID_ARGUMENT',
    2,
    'A configuration file, flag or environment variable is wrong; the message names source, line and key.',
    'Correct it; `--help` lists what is known.',
  ),
  version_too_new: entry(
    'EPROTO',
    'FAILED_PRECONDITION',
    1,
    'Data on disk, or the other side, is of a newer version than this program understands.',
    'Update this program. Nothing was changed.',
  ),
  // Rights and identity
  unauthenticated: entry(
    'EACCES',
    'UNAUTHENTICATED',
    4,
    'No certificate, or one that this member does not accept: wrong authority, wrong trust domain, wrong name or expired.',
    'Run `collective auth info`; then `collective auth renew` or `collective init` with a new token; on Kubernetes `kubectl collective context import`.',
  ),
  permission_denied: entry(
    'EACCES',
    'PERMISSION_DENIED',
    4,
    'The identity is known but may not do this: mode bits, a realm that it was not given, or a role that may not call this.',
    'Ask the owner for the right (`collective token create --realm ...`), or change the mode.',
  ),
  not_permitted: entry(
    'EPERM',
    'PERMISSION_DENIED',
    4,
    'Only the owner or an administrator may do this.',
    'Do it as the owner.',
  ),
  read_only: entry(
    'EROFS',
    'PERMISSION_DENIED',
    4,
    'The realm was given to you for reading only.',
    'Ask the owner for write access.',
  ),
  token_invalid: entry(
    'EACCES',
    'UNAUTHENTICATED',
    4,
    'A token or ticket is malformed, expired, used before (for another key), or made for another name, session, chunk, node or epoch.',
    'Enrolment: ask for a new token (`collective token create`). Data access: it is renewed by itself; look at the clock if it goes on.',
  ),
  csr_refused: entry(
    'EACCES',
    'PERMISSION_DENIED',
    4,
    'A certificate request asks for a name or a use that its sender may not have (T5).',
    'Make the request with `collective init` or `collective node`; the message names the offending part, or who denied it. Who enrolled needs a new token then.',
  ),
  not_signed_yet: entry(
    'EAGAIN',
    'UNAVAILABLE',
    5,
    'A certificate was approved, and whoever signs for this member (in Kubernetes the operator) has not done so yet (T5).',
    'Ask again with the same token or certificate: nothing is lost by it. If it goes on, look at the operator and at cert-manager: `kubectl describe member NAME`.',
  ),
  // Space
  no_space: entry(
    'ENOSPC',
    'RESOURCE_EXHAUSTED',
    6,
    'The storage nodes have no room above their reserve.',
    'Delete files, or add a node. Deletes still work.',
  ),
  metadata_full: entry(
    'ENOSPC',
    'RESOURCE_EXHAUSTED',
    6,
    "The coordinator's own disk is full up to its reserve: nothing new is made, written or given attributes. Reading, removing, cutting short and administration go on.",
    'Make room on the disk that holds the data folder of the coordinator, or give it a larger one; it goes on by itself then. Where the metadata itself has filled it: `collective rm -r --permanent`, `collective trash empty`.',
  ),
  quota_exceeded: entry(
    'EDQUOT',
    'RESOURCE_EXHAUSTED',
    6,
    'The realm has reached its quota of bytes or inodes.',
    'Delete files in the realm, or ask for a larger quota.',
  ),
  // Locks
  would_block: entry(
    'EAGAIN',
    'ABORTED',
    1,
    'The lock is held by somebody else and the caller does not want to wait.',
    'Try again later.',
  ),
  deadlock: entry(
    'EDEADLK',
    'ABORTED',
    1,
    'Waiting for this lock would close a circle of waiters.',
    'Release the locks held and start again.',
  ),
  no_locks: entry(
    'ENOLCK',
    'RESOURCE_EXHAUSTED',
    1,
    'The bound of locks a file or a session is reached.',
    'Release locks.',
  ),
  // Time and reachability
  interrupted: entry(
    'EINTR',
    'CANCELLED',
    5,
    'The caller gave up before there was an answer.',
    'Nothing; start it again if it is still wanted.',
  ),
  deadline_exceeded: entry(
    'ETIMEDOUT',
    'DEADLINE_EXCEEDED',
    5,
    'There was no answer in time.',
    'Check that the coordinator and the nodes run: `collective status`.',
  ),
  unavailable: entry(
    'EHOSTUNREACH',
    'UNAVAILABLE',
    5,
    'The coordinator or a node cannot be reached; the message names the address.',
    'Check that it runs and that the address is right.',
  ),
  overloaded: entry(
    'EAGAIN',
    'RESOURCE_EXHAUSTED',
    5,
    'A queue is full: more work was offered than its bound allows.',
    'Send less at once; it is safe to try again.',
  ),
  shutting_down: entry(
    'EHOSTUNREACH',
    'UNAVAILABLE',
    5,
    'The process is stopping and takes no new work.',
    'Try again in a moment.',
  ),
  session_lost: entry(
    'EIO',
    'ABORTED',
    5,
    'The coordinator no longer knows this session: its lease ran out. Locks and kept answers are gone; whether the last change took effect is not known.',
    'Open the files again and look.',
  ),
  fenced: entry(
    'EIO',
    'ABORTED',
    5,
    'A newer incarnation of this session or a newer epoch of the coordinator has taken over.',
    'The newer one goes on; this one must stop.',
  ),
  replay_differs: entry(
    'EIO',
    'ABORTED',
    1,
    'A change that was answered and then lost with the power could not be made again with the same outcome.',
    'Look at the file that the event names.',
  ),
  // Data
  chunk_missing: entry(
    'EIO',
    'DATA_LOSS',
    7,
    'No replica of a chunk could be read, or its nodes lost it with their power before it was stable.',
    'Bring the missing node back; `collective verify PATH` names it.',
  ),
  chunk_corrupt: entry(
    'EIO',
    'DATA_LOSS',
    7,
    'Stored bytes do not match their checksum.',
    'Other replicas are used; `collective verify PATH` names the bad one.',
  ),
  chunk_conflict: entry(
    'EIO',
    'ALREADY_EXISTS',
    1,
    'A chunk of this id exists with another digest.',
    'This is a defect: report it with the log.',
  ),
  chunk_condemned: entry(
    'EIO',
    'FAILED_PRECONDITION',
    1,
    'A commit names a chunk that was condemned as garbage before (D2).',
    'The client uploads it again by itself.',
  ),
  chunk_foreign: entry(
    'EIO',
    'FAILED_PRECONDITION',
    1,
    'A commit names a chunk id that was not given to its session (D2, D7), as after a session was lost.',
    'The client uploads it again by itself, under an id of its own.',
  ),
  frame_invalid: entry(
    'EBADMSG',
    'INVALID_ARGUMENT',
    1,
    'A frame on a bulk connection is malformed: wrong length, type, order or checksum.',
    'The connection is closed and used no more; look for a damaged network or mixed versions.',
  ),
  backup_damaged: entry(
    'EIO',
    'DATA_LOSS',
    7,
    'The file is no backup of a member, or it was cut or changed.',
    'Take another backup; `collective backup show FILE` checks one from its first byte to its last.',
  ),
  store_damaged: entry(
    'EIO',
    'DATA_LOSS',
    7,
    'A log, segment or database file is damaged in its middle, where no crash can explain it.',
    'Do not delete anything: copy the folder first. docs/formats says what the named file should hold.',
  ),
  disk_failed: entry(
    'EIO',
    'INTERNAL',
    1,
    'The disk refused a write or a sync. What was not yet stable is not to be trusted.',
    'The process restarts and verifies by itself; replace the disk if it happens again.',
  ),
  data_in_use: entry(
    'EBUSY',
    'FAILED_PRECONDITION',
    1,
    'The data folder is used by another process.',
    'Stop that process (`collective down`), or name another folder.',
  ),
  wrong_member: entry(
    'EINVAL',
    'FAILED_PRECONDITION',
    2,
    'The data folder, certificate or coordinator belongs to another member.',
    'Name the right member or folder; nothing was changed.',
  ),
  address_in_use: entry(
    'EADDRINUSE',
    'UNAVAILABLE',
    1,
    'The port is taken by another program.',
    'Choose another port, or stop the other program.',
  ),
  clock_wrong: entry(
    'EINVAL',
    'FAILED_PRECONDITION',
    1,
    'The clock of this machine is wrong: certificates are not valid yet, or the last start lies in the future.',
    'Set the clock (NTP) and start again.',
  ),
  internal: entry(
    'EIO',
    'INTERNAL',
    1,
    'Something failed that should not have failed.',
    'Report it with the log; the message and its causes say where.',
  ),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERROR_CODES;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text);
}
