/**
 * The public shapes of the SDK: what a program sees of a member. Types only; `connect()` makes the one implementation.
 *
 * Paths are absolute, with '/', in UTF-8 and from the member's root (`/photos/a.raw`); '.' and empty parts are dropped,
 * '..' is refused (`invalid_name`). Sizes and offsets are bytes, times are wall time in seconds and nanoseconds.
 * Every call takes an AbortSignal: an aborted call rejects with the signal's reason, and what it asked for either took
 * effect as a whole or will never take effect (M5). All other failures are a `CollectiveError` whose `code` is in the
 * error catalogue and whose message names the path.
 */
import type { Timestamp } from '@collective/base/clock';
import type { CollectiveError } from '@collective/base/errors';
import type { CertificateRequests } from './certificate-requests-api.ts';
import type { RemovedSubject, SubjectName, SubjectWish } from './subject-api.ts';
import type { Trash } from './trash-api.ts';
import type { TrustStatus } from './trust-api.ts';

export interface CallOptions {
  readonly signal?: AbortSignal;
}

// ---- a member ----

export interface Member extends AsyncDisposable {
  readonly files: Files;
  readonly admin: Admin;
  /** What the coordinator said when the session was attached; fresh after each re-attach. */
  readonly session: SessionFacts;
  /** Ends the session in order: open handles are released, locks are given up. Safe to call twice. */
  close(): Promise<void>;
}

export interface SessionFacts {
  readonly session: number;
  /** How often this session was attached. */
  readonly incarnation: number;
  readonly member: string;
  /** `<member>.<collective>` (T1). */
  readonly trustDomain: string;
  /** Version of the coordinator's program. */
  readonly version: string;
  readonly features: readonly string[];
  readonly realms: readonly RealmAccess[];
  /** False: all operations run as `uid` (T3a). */
  readonly trusted: boolean;
  readonly uid: number;
  readonly gid: number;
  readonly state: 'attached' | 'reconnecting' | 'closed';
}

export interface RealmAccess {
  readonly realm: number;
  readonly path: string;
  readonly readOnly: boolean;
  readonly replicas: number;
  readonly minReplicas: number;
}

// ---- files ----

export type InodeType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character' | 'block';

export interface Attributes {
  readonly inode: number;
  readonly realm: number;
  readonly type: InodeType;
  /** Permission bits with set-id and sticky bits, without the type: 0o644. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly sizeBytes: number;
  /** Bytes that the file occupies, before replication; below `sizeBytes` when sparse. */
  readonly storedBytes: number;
  readonly modified: Timestamp;
  readonly changed: Timestamp;
  readonly birth: Timestamp;
  readonly rdev: number;
  /** Grows with each change of content. */
  readonly version: number;
  /** Of a directory: how many entries it has. */
  readonly entries: number;
}

export interface DirectoryEntry {
  readonly name: string;
  /** Absolute path. */
  readonly path: string;
  readonly inode: number;
  readonly type: InodeType;
  /** Unset when `attributes: false` was asked. */
  readonly attributes?: Attributes;
}

export interface WalkEntry extends DirectoryEntry {
  readonly attributes: Attributes;
  /** 0 for the starting point itself. */
  readonly depth: number;
}

/** 'stable': on stable storage of the coordinator and the nodes (fsync), the default. 'written': survives killed processes, not power loss of all. */
export type Durability = 'stable' | 'written';

export interface MutationOptions extends CallOptions {
  readonly durability?: Durability;
}

export interface ReadOptions extends CallOptions {
  /** Default 0. */
  readonly offset?: number;
  /** Default: to the end of the file as it was when the read began. */
  readonly length?: number;
  /** Each piece is only good until the next one is asked for: its memory is used again, which makes long reads much cheaper. Default false. */
  readonly borrow?: boolean;
}

export type WriteSource = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface WriteProgress {
  /** Bytes of the source that are on their nodes; includes what a resumed upload found there. */
  readonly storedBytes: number;
  /** The hint that the caller gave, if any. */
  readonly totalBytes?: number;
}

/** What identifies a source over several tries: an interrupted upload goes on only if both are the same. */
export interface SourceIdentity {
  readonly sizeBytes: number;
  readonly modified: Timestamp;
}

export interface WriteOptions extends MutationOptions {
  /** Permission bits of a new file; default 0o644. A replaced file's name keeps its old mode and owner unless this is set. */
  readonly mode?: number;
  /** False: `exists` if there is something of that name. Default true: the new content takes the name in one step. */
  readonly replace?: boolean;
  /** Size of the source if known: lets progress show a total. */
  readonly sizeHintBytes?: number;
  /** Time of modification to set; default: now. */
  readonly modified?: Timestamp;
  /** Calls back after each stored block. */
  readonly onProgress?: (progress: WriteProgress) => void;
  /**
   * Goes on with an interrupted upload of the same source to the same path. `source(offset)` is asked for the bytes
   * from `offset` on; the plain source argument is then only used from the start.
   */
  readonly resume?: ResumeOptions;
}

export interface ResumeOptions {
  readonly identity: SourceIdentity;
  readonly source: (offset: number) => WriteSource;
}

export interface SmallFile {
  readonly path: string;
  readonly content: Uint8Array;
  readonly mode?: number;
  readonly modified?: Timestamp;
}

export interface WriteManyOptions extends MutationOptions {
  readonly replace?: boolean;
  /** Files under way at once; default 32. */
  readonly depth?: number;
}

/** One per input file, in the order in which they were done. */
export type WriteManyOutcome =
  | { readonly path: string; readonly attributes: Attributes }
  | { readonly path: string; readonly error: Error };

export interface OpenOptions extends MutationOptions {
  /** 'read' (default): the file must exist. 'write': opened for reading and writing, created if `create`. */
  readonly access?: 'read' | 'write';
  readonly create?: boolean;
  /** With `create`: `exists` if there is a file of that name. */
  readonly exclusive?: boolean;
  readonly truncate?: boolean;
  readonly mode?: number;
}

export interface SetAttributes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Truncates or grows with zeros. */
  readonly sizeBytes?: number;
  readonly modified?: Timestamp | 'now';
}

export type RenameMode = 'replace' | 'no-replace' | 'exchange';

export interface LockRequest {
  readonly type: 'read' | 'write';
  /** 'posix' locks ranges, 'bsd' the whole file. Default 'posix'. */
  readonly family?: 'posix' | 'bsd';
  /** Who owns it within this session; default 0. Locks of one owner never conflict. */
  readonly owner?: number;
  /** First byte; default 0. */
  readonly start?: number;
  /** Last byte, inclusive; default: to the end of the file, however it grows. */
  readonly end?: number;
  /** Waits until it is granted or the signal aborts; else `would_block`. */
  readonly wait?: boolean;
}

export interface LockGrant {
  /** Grows with each grant on the file: lets a store behind the lock refuse a late holder. */
  readonly fence: number;
}

export interface HeldLock {
  readonly type: 'read' | 'write';
  readonly family: 'posix' | 'bsd';
  readonly owner: number;
  readonly start: number;
  readonly end: number;
  readonly pid: number;
}

/** An open file. Reads and writes go by explicit offset; there is no hidden position. Writes are stable when `sync` or `close` has returned, or per call. */
export interface FileHandle extends AsyncDisposable {
  readonly inode: number;
  readonly path: string;
  attributes(options?: CallOptions): Promise<Attributes>;
  setAttributes(changes: SetAttributes, options?: MutationOptions): Promise<Attributes>;
  /** Fewer bytes only at the end of the file. At most 64 MiB at once (`range`). */
  read(offset: number, length: number, options?: CallOptions): Promise<Buffer>;
  /** Bytes from `offset` on in order, read ahead within a bound. */
  stream(options?: ReadOptions): AsyncIterable<Buffer>;
  /** All of `bytes` or an error; default durability 'stable'. */
  write(offset: number, bytes: Uint8Array, options?: MutationOptions): Promise<void>;
  /** Adds at the end, atomic against other appenders (F7); resolves to the offset where the bytes lie. At most 4 MiB (`range`). */
  append(bytes: Uint8Array, options?: MutationOptions): Promise<number>;
  truncate(sizeBytes: number, options?: MutationOptions): Promise<void>;
  /** Makes a hole of zeros. */
  punchHole(offset: number, length: number, options?: MutationOptions): Promise<void>;
  /** Everything that was written through this session to the file is stable when this resolves. */
  sync(options?: CallOptions): Promise<void>;
  lock(request: LockRequest, options?: CallOptions): Promise<LockGrant>;
  unlock(request: Omit<LockRequest, 'type' | 'wait'>, options?: CallOptions): Promise<void>;
  /** The lock that stands in the way of the request, if any. */
  testLock(request: LockRequest, options?: CallOptions): Promise<HeldLock | undefined>;
  close(): Promise<void>;
}

export interface FileSystemTotals {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
  /** Of what is used. */
  readonly trashBytes: number;
  readonly trashInodes: number;
}

export interface UsageTotals {
  readonly files: number;
  readonly directories: number;
  readonly bytes: number;
  readonly storedBytes: number;
}

export interface ReplicaFinding {
  readonly chunk: string;
  /** Offset of the chunk's block in the file. */
  readonly offset: number;
  readonly node: string;
  readonly error: Error;
}

export interface VerifyReport {
  readonly path: string;
  readonly chunks: number;
  readonly replicas: number;
  /** Bytes read, all replicas counted. */
  readonly bytesRead: number;
  /** Replicas that are missing, damaged or out of reach. Empty: all is well. */
  readonly bad: readonly ReplicaFinding[];
  /** Chunks with fewer readable replicas than their realm wants. */
  readonly underReplicated: number;
  /** Chunks without any readable replica. */
  readonly lost: number;
}

export interface Files {
  /** Follows symbolic links. */
  stat(path: string, options?: CallOptions): Promise<Attributes>;
  /** Does not follow a symbolic link at the end of the path, unless a '/' stands behind it. */
  lstat(path: string, options?: CallOptions): Promise<Attributes>;
  exists(path: string, options?: CallOptions): Promise<boolean>;
  /** Entries in the order of their creation, read in pages; a directory of any size. */
  list(path: string, options?: CallOptions & { readonly attributes?: boolean }): AsyncIterable<DirectoryEntry>;
  /**
   * The starting point and all below it, parents before children. Symbolic links are not followed, but for one at the end
   * of `path` with a '/' behind it.
   */
  walk(path: string, options?: CallOptions & { readonly depthMax?: number }): AsyncIterable<WalkEntry>;

  open(path: string, options?: OpenOptions): Promise<FileHandle>;
  /** The content in order, in pieces of at most 4 MiB, read ahead within a bound. */
  read(path: string, options?: ReadOptions): AsyncIterable<Buffer>;
  /** The whole content in memory; `range` if it has more than `bytesMax` (default 64 MiB). */
  readAll(path: string, options?: ReadOptions & { readonly bytesMax?: number }): Promise<Buffer>;
  /** Stores a whole file. The name shows the old content until all is there, then the new. */
  write(path: string, source: WriteSource, options?: WriteOptions): Promise<Attributes>;
  /** Stores many small files (at most 4 MiB each) at once; one that fails does not stop the others. */
  writeMany(
    files: AsyncIterable<SmallFile> | Iterable<SmallFile>,
    options?: WriteManyOptions,
  ): AsyncIterable<WriteManyOutcome>;

  /** With `recursive`, parents are made and an existing directory is no error. */
  mkdir(
    path: string,
    options?: MutationOptions & { readonly recursive?: boolean; readonly mode?: number },
  ): Promise<Attributes>;
  /**
   * A file, link or empty directory; with `recursive` all below it. With `force`, no error if there is nothing. It goes into
   * the trash of its realm (see `Admin.trash`), if that has one and `permanent` is not given.
   */
  remove(
    path: string,
    options?: MutationOptions & {
      readonly recursive?: boolean;
      readonly force?: boolean;
      readonly permanent?: boolean;
    },
  ): Promise<void>;
  rename(from: string, to: string, options?: MutationOptions & { readonly mode?: RenameMode }): Promise<void>;
  /** A second name for a file. */
  link(existing: string, path: string, options?: MutationOptions): Promise<Attributes>;
  symlink(target: string, path: string, options?: MutationOptions): Promise<Attributes>;
  readlink(path: string, options?: CallOptions): Promise<string>;
  setAttributes(
    path: string,
    changes: SetAttributes,
    options?: MutationOptions & { readonly followLinks?: boolean },
  ): Promise<Attributes>;
  truncate(path: string, sizeBytes: number, options?: MutationOptions): Promise<Attributes>;

  getXattr(path: string, name: string, options?: CallOptions): Promise<Buffer>;
  setXattr(
    path: string,
    name: string,
    value: Uint8Array,
    options?: MutationOptions & { readonly mode?: 'any' | 'create' | 'replace' },
  ): Promise<void>;
  listXattrs(path: string, options?: CallOptions): Promise<string[]>;
  removeXattr(path: string, name: string, options?: MutationOptions): Promise<void>;

  /** Reads every replica of every chunk of the file and names what is bad. Follows symbolic links. */
  verify(
    path: string,
    options?: CallOptions & { readonly onProgress?: (progress: { readonly bytesRead: number }) => void },
  ): Promise<VerifyReport>;
  /** Sums of a directory tree, counted by the coordinator in bounded steps. */
  usage(path: string, options?: CallOptions): Promise<UsageTotals>;
  /** Room in the realm of the path. */
  statFileSystem(path: string, options?: CallOptions): Promise<FileSystemTotals>;
}

// ---- administration ----

export type SubjectRole = 'user' | 'client' | 'node';
export type NodeHealth = 'ready' | 'away' | 'full' | 'unknown';

export interface NodeStatus {
  readonly name: string;
  readonly state: NodeHealth;
  readonly zone: string;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly freeBytes: number;
  readonly lastHeartbeat?: Timestamp;
  readonly version: string;
  /** uuid */
  readonly disk: string;
  readonly chunks: number;
  readonly addresses: readonly { readonly listener: string; readonly host: string; readonly port: number }[];
  readonly certificateExpires?: Timestamp;
  /** 'cordoned': takes no new chunks; 'draining': its chunks move away as well. */
  readonly duty: string;
  /** Of a draining node, by the last walk over all chunks and what has moved since; `nodeHolding` counts anew. */
  readonly leftChunks: number;
  readonly leftBytes: number;
  /** Those of them that cannot move now, and why. */
  readonly waiting: readonly WaitingChunks[];
  /** Unset: the node has not reported since the coordinator's start. */
  readonly scrub?: NodeScrub;
  /** Its clock less the coordinator's, as its last report came; the way is part of it. */
  readonly clockOffMs: number;
}

/** How far a node is with reading all that it holds. Times are by the node's clock. */
export interface NodeScrub {
  /** Of the pass under way. */
  readonly passBegan?: Timestamp;
  readonly verifiedBytes: number;
  readonly totalBytes: number;
  /** Of the last whole pass; unset: none yet. */
  readonly lastBegan?: Timestamp;
  readonly lastEnded?: Timestamp;
  /** Chunks that were found damaged while it went. */
  readonly lastDamaged: number;
  /** Since the disk was first used. */
  readonly damagedFound: number;
  /** And not repaired yet; counted up to 1,000. */
  readonly damagedNow: number;
}

export interface WaitingChunks {
  /** A word for programs. */
  readonly reason: string;
  readonly says: string;
  readonly chunks: number;
}

export interface JobStatus {
  readonly name: string;
  /** 'resting', 'working' or 'failing'. */
  readonly state: string;
  readonly done: number;
  /** Undefined: not known. */
  readonly total?: number;
  readonly unit: string;
  /** Since the coordinator's start. */
  readonly rounds: number;
  /** Since the round under way began, or the last one ended. */
  readonly sinceSeconds?: number;
  readonly failure: string;
}

export interface MemberStatus {
  /** How far a change of the authority has come (T6). */
  readonly trust: TrustStatus;
  readonly member: string;
  readonly trustDomain: string;
  readonly version: string;
  readonly epoch: { readonly generation: number; readonly start: number };
  readonly started?: Timestamp;
  /** The coordinator's clock. */
  readonly time?: Timestamp;
  readonly logPosition: number;
  readonly stablePosition: number;
  readonly sessions: number;
  readonly nodes: readonly NodeStatus[];
  /** Nodes that tried to register in the last minutes and were not taken, and why; known ones and others. */
  readonly refusedNodes: readonly {
    readonly name: string;
    readonly code: string;
    readonly message: string;
    readonly at?: Timestamp;
  }[];
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly files: number;
  readonly directories: number;
  readonly trashBytes: number;
  /** And directories. */
  readonly trashFiles: number;
  readonly replication: {
    readonly replicas: number;
    readonly underReplicated: number;
    /** Nodes or rules have changed since all chunks were looked at: more may be short than is said here. */
    readonly counting: boolean;
    readonly unstable: number;
    /** Blocks that lost what was written last and got back what was before, until somebody has settled it; when the latest did. */
    readonly lost: number;
    readonly lostLast?: Timestamp;
    /** Chunks that have enough replicas, but not all where they should be, or too many. */
    readonly toMove: number;
    /** Chunks of which no sound copy is left. */
    readonly unreadable: number;
    readonly bytesToRepair: number;
    /** At the speed of the last half minute; 0: nothing is left, or nothing moves. */
    readonly restSeconds: number;
    /** Copied since the coordinator's start. */
    readonly repairedBytes: number;
    /** What cannot be repaired now, and why. */
    readonly waiting: readonly WaitingChunks[];
    /** Of the last copy that failed; empty: none did. */
    readonly failure: string;
  };
  readonly garbage: GarbageStatus;
  /** Of the disk that holds the metadata; 0: not known. */
  readonly metadataCapacityBytes: number;
  readonly metadataFreeBytes: number;
  /** What makes the metadata larger is refused (`metadata_full`) until there is more room there. */
  readonly metadataFull: boolean;
  /** What the member does by itself. */
  readonly jobs: readonly JobStatus[];
  readonly certificates: readonly {
    readonly subject: string;
    readonly issuer: string;
    readonly notAfter?: Timestamp;
    readonly kind: string;
  }[];
  /** Newest first, at most 20. */
  readonly events: readonly MemberEvent[];
}

export interface Identity {
  /** URI SAN of the certificate. */
  readonly subject: string;
  readonly role: string;
  readonly name: string;
  readonly admin: boolean;
  readonly trusted: boolean;
  readonly uid: number;
  readonly gid: number;
  readonly realms: readonly { readonly realm: number; readonly path: string; readonly readOnly: boolean }[];
  readonly member: string;
  readonly trustDomain: string;
}

export interface TokenRequest {
  readonly role: SubjectRole;
  readonly name: string;
  readonly ttlSeconds: number;
  readonly admin?: boolean;
  /** Default: the root realm, read-write. */
  readonly realms?: readonly { readonly path: string; readonly readOnly?: boolean }[];
  /** Squash to this uid; default: one of its own. */
  readonly uid?: number;
  readonly trusted?: boolean;
}

export interface CreatedToken {
  /** Secret, shown once. */
  readonly token: string;
  readonly expires?: Timestamp;
  readonly subject: string;
}

export interface RealmRequest {
  readonly path: string;
  /** 0 or unset: no quota. */
  readonly quotaBytes?: number;
  readonly quotaInodes?: number;
  readonly replicas?: number;
  readonly minReplicas?: number;
  readonly compression?: boolean;
  /** How long removed files are kept; 0: there is no trash. Default: 7 days. */
  readonly trashSeconds?: number;
  /** The oldest of the trash goes early when there is no room. */
  readonly trashYields?: boolean;
  /** Whoever may use the realm around it may use it. Default: if there is something in the directory. */
  readonly sharesRights?: boolean;
}

export type RealmChange = Partial<Omit<RealmRequest, 'path'>>;

export interface Realm {
  readonly realm: number;
  readonly path: string;
  readonly root: number;
  readonly quotaBytes: number;
  readonly quotaInodes: number;
  readonly usedBytes: number;
  readonly usedInodes: number;
  readonly replicas: number;
  readonly minReplicas: number;
  readonly compression: boolean;
  /** Of what is used. */
  readonly trashBytes: number;
  readonly trashInodes: number;
  /** 0: there is no trash. */
  readonly trashSeconds: number;
  readonly trashYields: boolean;
  /** That is making or dissolving it, see `Admin.jobs`; 0: none. */
  readonly job: number;
  /** Whoever may use the realm around it may use it. */
  readonly sharesRights: boolean;
}

/** Work in bounded steps that a person asked for. It goes on after a restart; the last ended ones are kept. */
export interface Job {
  readonly id: number;
  readonly kind: 'make-realm' | 'dissolve-realm';
  /** 'taking back': it cannot be done, and what was done is undone; then it has 'failed', and all is as before. */
  readonly state: 'working' | 'taking back' | 'done' | 'failed';
  readonly path: string;
  /** Who asked. */
  readonly subject: string;
  readonly began?: Timestamp;
  readonly ended?: Timestamp;
  /** Files and directories so far. */
  readonly moved: number;
  readonly passes: number;
  /** Why it has failed, and what to do. */
  readonly failure: string;
}

/** Unary calls; what they need is in the error: `permission_denied` when the subject is no admin. */
export interface Admin {
  readonly trash: Trash;
  readonly certificateRequests: CertificateRequests;
  status(options?: CallOptions): Promise<MemberStatus>;
  nodes(options?: CallOptions): Promise<readonly NodeStatus[]>;
  whoAmI(options?: CallOptions): Promise<Identity>;
  createToken(request: TokenRequest, options?: CallOptions): Promise<CreatedToken>;
  subjects(options?: CallOptions): Promise<readonly Identity[]>;
  /** Writes what a user or client may do, and answers that with its uid. Safe to repeat; counts at once for open sessions. */
  putSubject(wish: SubjectWish, options?: CallOptions): Promise<Identity>;
  /** Ends its sessions; its certificate is refused from then on. Safe to repeat. */
  removeSubject(subject: SubjectName, options?: CallOptions): Promise<RemovedSubject>;
  /**
   * An empty or missing directory is a realm at once. One with something in it becomes one by a job while it is in use:
   * `waitForJob(realm.job)`. Throws `exists`, `not_found`, `busy` while another such job is at work there.
   */
  createRealm(request: RealmRequest, options?: CallOptions): Promise<Realm>;
  /**
   * What is in the realm becomes a part of the realm around it, by a job; nothing is removed. Throws `not_found`, `not_permitted` for
   * the root realm, `quota_exceeded` when the other has no room for it, `busy`.
   */
  dissolveRealm(path: string, options?: CallOptions): Promise<Job>;
  /** Oldest first. */
  jobs(options?: CallOptions): Promise<readonly Job[]>;
  /**
   * Resolves when it is done, over restarts of the coordinator too. Throws `cross_realm` with its reason when it has failed, `not_found`,
   * `unavailable` when the coordinator was away for a minute. An abort ends only the wait.
   */
  waitForJob(id: number, options?: CallOptions & { readonly onProgress?: (job: Job) => void }): Promise<Job>;
  /** What is not given stays. Sessions follow within seconds. */
  setRealm(path: string, change: RealmChange, options?: CallOptions): Promise<Realm>;
  realms(options?: CallOptions): Promise<readonly Realm[]>;
  /** Resolves when it is stable, with what lies there now. Throws `not_found`. */
  setNodeDuty(name: string, duty: NodeDuty, options?: CallOptions): Promise<NodeHolding>;
  /**
   * What lies on a node, counted over all chunks when it is asked: 0 chunks means that it may go. `rough`: for who asks again and
   * again while a node drains; more than 0 may be an estimate that costs nothing, 0 is counted all the same.
   */
  nodeHolding(name: string, options?: CallOptions & { readonly rough?: boolean }): Promise<NodeHolding>;
  /**
   * Throws `busy` while chunks lie there. With `force` these copies are given up; but chunks of which no other copy is known only
   * with `loseLastCopies` as well.
   */
  removeNode(
    name: string,
    options?: CallOptions & { readonly force?: boolean; readonly loseLastCopies?: boolean },
  ): Promise<NodeHolding>;
  /**
   * Has a node read and verify all that it holds, at full speed. Resolves when that has begun, or with `wait` when it is done;
   * `onProgress` then hears how far it is. Throws `not_found`, `unavailable`.
   */
  scrubNode(
    name: string,
    options?: CallOptions & { readonly wait?: boolean; readonly onProgress?: (node: NodeStatus) => void },
  ): Promise<NodeStatus>;
  rebalance(options?: CallOptions): Promise<RebalanceStatus>;
  /**
   * Evens out how much lies on each node: resolves when it has begun, or with `wait` when it is done; with `dryRun` nothing
   * moves. Throws `not_permitted` after a restore that nobody has confirmed.
   */
  rebalanceNodes(
    options?: CallOptions & {
      readonly wait?: boolean;
      readonly dryRun?: boolean;
      readonly onProgress?: (status: RebalanceStatus) => void;
    },
  ): Promise<RebalanceStatus>;
  /** Newest first; from the newest, or from below `before`. */
  events(query?: EventQuery, options?: CallOptions): Promise<EventPage>;
  maintenance(options?: CallOptions): Promise<MaintenanceSettings>;
  /** What is not named stays as it is. Throws `invalid_argument`. */
  setMaintenance(change: Partial<MaintenanceSettings>, options?: CallOptions): Promise<MaintenanceSettings>;
  garbage(options?: CallOptions): Promise<GarbageStatus>;
  /** What a collection with this grace would take, in the order of ids; default: the member's own grace. */
  dueGarbage(query?: { readonly graceSeconds?: number }, options?: CallOptions): AsyncIterable<GarbageChunk>;
  /**
   * Collects what is older than the grace time (default: the member's own), and has nodes give the room back at once. Resolves
   * when it has begun, or with `wait` when it is done; `compactions` tells who could not finish. Throws `not_permitted` after a restore
   * that nobody has confirmed.
   */
  collectGarbage(
    request?: {
      readonly graceSeconds?: number;
      readonly wait?: boolean;
      readonly onProgress?: (status: GarbageStatus) => void;
    },
    options?: CallOptions,
  ): Promise<GarbageStatus>;
  /** Chunks on nodes that nothing names. */
  orphans(options?: CallOptions): AsyncIterable<OrphanChunk>;
  /**
   * All metadata of the member as of one moment, in pieces of a file (docs/formats/backup.md); for administrators. Whoever
   * reads them must not stop: after a minute the coordinator gives up. Report it when it is kept.
   */
  backup(options?: CallOptions): AsyncIterable<Uint8Array>;
  /** Somebody has seen to so many blocks of those that `status` says are lost: they count no longer. */
  settleLosses(
    losses: { readonly blocks: number },
    options?: CallOptions,
  ): Promise<{ readonly settled: number; readonly left: number }>;
  /** Tells that a backup is whole and kept: from now on it counts as made (event `backup-made`). `position`: of its head. */
  reportBackup(backup: { readonly position: number }, options?: CallOptions): Promise<void>;
  /** A new certificate for the caller's own subject, by a request in DER (T3); see `renewCertificate` of this package. */
  renewCertificate(csr: Uint8Array, options?: CallOptions): Promise<IssuedCertificate>;
}

/** What happened that a person should know. */
export interface MemberEvent {
  readonly time?: Timestamp;
  readonly kind: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string>>;
}

export type NodeDuty = 'active' | 'cordoned' | 'draining';

export interface NodeHolding {
  readonly name: string;
  readonly duty: string;
  readonly state: NodeHealth;
  /** That rows of named chunks say lie there. */
  readonly chunks: number;
  readonly bytes: number;
}

export interface RebalanceStatus {
  /** Since the coordinator's start. */
  readonly movedChunks: number;
  readonly movedBytes: number;
  /** How far the node that is furthest from the average use is from it, in percent of its capacity; unset: not known. */
  readonly spreadPercent?: number;
  /** Of a dry run. */
  readonly plannedChunks: number;
  readonly plannedBytes: number;
  readonly plannedSpreadPercent?: number;
}

export interface EventQuery {
  /** Number of an event. */
  readonly before?: number;
  /** At most 1,000; default 100. */
  readonly limit?: number;
  /** Only these, as 'disk-lost'. */
  readonly kind?: string;
}

export interface EventPage {
  readonly events: readonly (MemberEvent & { readonly number: number })[];
  /** There are no older ones. */
  readonly end: boolean;
}

/** How the member looks after itself. */
export interface MaintenanceSettings {
  /** A node that is away for so long is given up: its replicas are made anew elsewhere. */
  readonly repairAfterSeconds: number;
  /** Bytes that repair, drain and folds copy together in a second; as many may be read again before something goes. */
  readonly repairBytesPerSecond: number;
  /** Every chunk is read and verified once within it; 0: never. */
  readonly scrubPeriodSeconds: number;
  /** What nothing names any more is kept for so long. */
  readonly garbageGraceSeconds: number;
  /** Nothing is collected until this is taken back: set by a restore. */
  readonly garbageWaits: boolean;
  /** Nodes are evened out when the use of one differs from the average by more than so many percent of capacity; 0: only when asked. */
  readonly rebalancePercent: number;
  /** Hours of the day, of UTC, as '01-05'; empty: at any time. */
  readonly rebalanceHours: string;
}

/** What nothing names any more, and what is done about it. */
export interface GarbageStatus {
  readonly graceSeconds: number;
  /** After a restore nothing is collected until a person confirms. */
  readonly waits: boolean;
  /** When garbage was last counted as a whole; unset: not since the coordinator's start. */
  readonly walkedAt?: Timestamp;
  /** Kept for the grace time, or for a node that is away: as counted then, and what became garbage since. */
  readonly chunks: number;
  /** Of them, on all nodes together. */
  readonly storedBytes: number;
  /** Of them, not forgotten by all their nodes yet. */
  readonly condemned: number;
  /** Nodes that could not be told to forget theirs. */
  readonly waitsFor: readonly { readonly node: string; readonly reason: string }[];
  /** Removed and emptied files whose blocks are not garbage yet; counted up to 10,000. */
  readonly removedFiles: number;
  /** Since the coordinator's start. */
  readonly collectedChunks: number;
  readonly collectedBytes: number;
  /** On nodes, named by nothing. */
  readonly orphans: number;
  readonly orphansForgotten: number;
  readonly inventories: readonly NodeInventory[];
  /** Blocks of many small writes that became one piece again, since the start. */
  readonly foldedBlocks: number;
  readonly blocksToFold: number;
  /** Of the last collection that somebody asked for: how far nodes are with giving the room back. */
  readonly compactions: readonly NodeCompaction[];
}

export interface NodeCompaction {
  readonly node: string;
  /** 'working', 'done', 'unfinished'. */
  readonly state: string;
  /** In its segments, of chunks that it has forgotten. */
  readonly deadBytes: number;
  /** Of one that is unfinished: why, and what to do. */
  readonly reason: string;
}

/** What the last comparison of a node with the metadata found. */
export interface NodeInventory {
  readonly node: string;
  readonly ended?: Timestamp;
  readonly chunks: number;
  /** The metadata named them, and the node lacked them. */
  readonly missing: number;
  /** The node had them, and the metadata did not name them there. */
  readonly orphans: number;
  /** Of these, became replicas. */
  readonly adopted: number;
}

export interface GarbageChunk {
  readonly chunk: string;
  readonly since?: Timestamp;
  /** No commit can bring it back any more. */
  readonly condemned: boolean;
  /** On all nodes together. */
  readonly storedBytes: number;
  readonly nodes: readonly string[];
  /** Of the file that it was written for. */
  readonly inode: number;
}

export interface OrphanChunk {
  readonly node: string;
  readonly disk: string;
  readonly chunk: string;
  readonly since?: Timestamp;
  /** Its node is told to forget it. */
  readonly leaving: boolean;
  readonly forgotten?: Timestamp;
}

export interface IssuedCertificate {
  readonly certificatePem: string;
  /** The member's trust bundle. */
  readonly bundlePem: string;
  readonly subject: string;
}

// ---- connecting ----

export interface ConnectOptions {
  /** Host and port of the coordinator: `localhost:7420`, `[::1]:7420`. */
  readonly coordinator: string;
  /** `<member>.<collective>`: the name that the coordinator must prove (T2). */
  readonly trustDomain: string;
  /** Folder with `tls.crt`, `tls.key` and `trust.pem`. */
  readonly credentials: string;
  /** Which address of the nodes to use (D10); default 'external'. */
  readonly listener?: string;
  /**
   * Where to dial a node instead of its own address, for members that cannot be reached directly: a tunnel, a forwarded
   * port. Asked before each connection. Who answers there must prove to be that node all the same (T2).
   */
  readonly reachNode?: ReachNode;
  /** Keep attributes, entries and block maps under promises (M7); default false. */
  readonly cache?: boolean;
  /** How long the first attach is tried before `connect` fails with `unavailable`; default 10 s. */
  readonly connectWithinMs?: number;
  /** Why a try to attach failed, while it goes on trying: for those who would rather tell than wait in silence. */
  readonly onConnectFailed?: (error: CollectiveError) => void;
  /** How long a call waits for a lost coordinator before it fails with `unavailable`; default 30 s. Its answer may take 90 s more. */
  readonly reconnectWithinMs?: number;
  /** Bytes of chunks in flight for uploads; default 32 MiB. */
  readonly uploadBytesMax?: number;
  /** Bytes read ahead for downloads; default 32 MiB. */
  readonly downloadBytesMax?: number;
  /** Name and version of the program, shown in the member's status. */
  readonly program?: string;
}

export type ReachNode = (
  node: { readonly name: string; readonly host: string; readonly port: number },
  signal: AbortSignal,
) => Promise<{ readonly host: string; readonly port: number }>;
