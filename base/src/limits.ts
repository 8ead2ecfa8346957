/** Every bound has a name. Bounds of one room only live in that room; these are agreed between rooms. */

const KiB = 1024;
const MiB = 1024 * KiB;

/** D1: a file is blocks of this size; the last may be shorter. Also the largest chunk. */
export const BLOCK_BYTES = 4 * MiB;
/** D5: raw bytes of one frame; a random read costs one. */
export const FRAME_BYTES = 128 * KiB;
/** Largest file: 16 TiB. */
export const FILE_BYTES_MAX = 16 * 1024 ** 4;
/** POSIX NAME_MAX, in bytes of UTF-8. */
export const NAME_BYTES_MAX = 255;
/** POSIX PATH_MAX without its NUL, in bytes; also the longest symlink target. */
export const PATH_BYTES_MAX = 4095;
export const SYMLINKS_FOLLOWED_MAX = 40;
/** Linux: XATTR_NAME_MAX and XATTR_SIZE_MAX; the sum of a file's names is bounded by XATTR_LIST_MAX. */
export const XATTR_NAME_BYTES_MAX = 255;
export const XATTR_VALUE_BYTES_MAX = 64 * KiB;
export const XATTR_LIST_BYTES_MAX = 64 * KiB;
export const HARD_LINKS_MAX = 65_000;
/** Entries in one answer to a directory read. */
export const DIRECTORY_PAGE_ENTRIES_MAX = 2_000;
/** Blocks in one answer to a block map read. */
export const BLOCK_PAGE_MAX = 64;
/** Slices in one commit. */
export const COMMIT_SLICES_MAX = 256;
/** Operations of one session that wait for an answer. */
export const SESSION_OPERATIONS_MAX = 1_024;
/** gRPC messages, both ways. */
export const CONTROL_MESSAGE_BYTES_MAX = 8 * MiB;
/** Replicas of a chunk. */
export const REPLICAS_MAX = 5;

/** M6: how long a promise holds without renewal. */
export const PROMISE_LEASE_MS = 10_000;
/** M6: how long a session holds without renewal. */
export const SESSION_LEASE_MS = 90_000;
/** D10: a node reports this often. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** D8: a node not heard of for so long gets no new chunks, and writes go on without it. */
export const NODE_AWAY_AFTER_MS = 5_000;
/** D7: lifetime of an access token. */
export const ACCESS_TOKEN_LIFETIME_MS = 300_000;
/** M2: written batches are synced within this time at the latest. */
export const LOG_SYNC_WITHIN_MS = 50;
/** D3: a node syncs written chunks by itself within this time. */
export const CHUNK_SYNC_WITHIN_MS = 1_000;

export const WIRE_VERSION = 1;
