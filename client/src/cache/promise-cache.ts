/**
 * What the coordinator promised not to change without asking (M7): attributes, directory entries (present and absent)
 * and block maps. It answers reads in the session's place while the promise lease holds.
 *
 * Invariants: nothing is kept without a grant; a grant older than the last recall of its inode is discarded; an answer
 * that was under way while this session changed the inode, or while a recall came, is not kept, because the session's
 * own changes are never recalled and answers may overtake each other. When the lease ends, all of it goes.
 */
import type { Clock } from '@collective/base/clock';
import type { Failure } from '@collective/protocol/gen/common';
import {
  type Attributes,
  type BlockPage,
  Existing,
  type HeldPromise,
  InodeType,
  PromiseKind,
  type Reply,
  type Resolve,
} from '@collective/protocol/gen/session';
import { changedInodes, isRead, type OperationBody, type Result } from '../session/operation-kinds.ts';

const { PROMISE_ATTRIBUTES, PROMISE_ENTRIES, PROMISE_DATA } = PromiseKind;

/** Inodes that a session keeps by default. */
export const CACHED_INODES_MAX = 100_000;
/** Names kept of one directory. */
const CACHED_NAMES_MAX = 20_000;
/** Block pages kept of one file. */
const CACHED_PAGES_MAX = 64;
const ABSENT = 0;

interface Cached {
  kinds: number;
  attributes?: Attributes;
  /** Name (bytes as Latin-1) -> inode, or ABSENT. */
  names?: Map<string, number>;
  /** First block and count asked -> answer. */
  pages?: Map<string, BlockPage>;
}

export class PromiseCache {
  readonly #clock: Clock;
  readonly #inodesMax: number;
  readonly #inodes = new Map<number, Cached>();
  readonly #recalled: Marks;
  readonly #touched: Marks;
  #stamp = 0;
  #leaseUntilMs = Number.NEGATIVE_INFINITY;
  #forgotten: number[] = [];

  constructor(options: { clock: Clock; inodesMax?: number }) {
    this.#clock = options.clock;
    this.#inodesMax = options.inodesMax ?? CACHED_INODES_MAX;
    this.#recalled = new Marks(2 * this.#inodesMax);
    this.#touched = new Marks(2 * this.#inodesMax);
  }

  /** The promise lease, on boot time and counted from the sending of the renewal (M6). */
  extendLease(untilMs: number): void {
    this.#leaseUntilMs = Math.max(this.#leaseUntilMs, untilMs);
  }

  get leaseHolds(): boolean {
    return this.#clock.bootMs() < this.#leaseUntilMs;
  }

  /** Whether all of these kinds are promised now. */
  holds(inode: number, kinds: number): boolean {
    return this.leaseHolds && ((this.#inodes.get(inode)?.kinds ?? 0) & kinds) === kinds;
  }

  get size(): number {
    return this.#inodes.size;
  }

  /** The lease ended or the session was lost: no promise holds any more. */
  clear(): void {
    this.#inodes.clear();
    this.#forgotten = [];
    this.#leaseUntilMs = Number.NEGATIVE_INFINITY;
    this.#touched.raiseFloor(++this.#stamp);
  }

  /** What is still held, for a coordinator that has restarted. */
  held(): HeldPromise[] {
    if (!this.leaseHolds) this.clear();
    return [...this.#inodes].map(([inode, { kinds }]) => ({ inode, kinds }));
  }

  /** To be taken before a read is sent and given back with its answer. */
  stamp(): number {
    return ++this.#stamp;
  }

  answer(body: OperationBody): Result | undefined {
    if (!this.leaseHolds) return undefined;
    switch (body.$case) {
      case 'getAttributes': {
        const attributes = this.#attributes(body.value.inode);
        return attributes && { $case: 'attributes', value: attributes };
      }
      case 'lookup': {
        const child = this.#child(body.value.parent, body.value.name);
        if (child === ABSENT) return { $case: 'failure', value: absent(body.value.name) };
        const attributes = child === undefined ? undefined : this.#attributes(child);
        return attributes && { $case: 'attributes', value: attributes };
      }
      case 'resolve':
        return this.#resolve(body.value);
      case 'readBlocks': {
        const { inode, first, count } = body.value;
        const page = this.#use(inode)?.pages?.get(`${first}+${count}`);
        return page !== undefined && this.#ticketsHold(page) ? { $case: 'blocks', value: page } : undefined;
      }
      default:
        return undefined;
    }
  }

  /** Keeps what an answer says, as far as it comes with promises. */
  absorb(body: OperationBody, reply: Reply, stamp: number): void {
    if (!this.leaseHolds) return;
    for (const grant of reply.promises) {
      if (grant.sequence < this.#recalled.of(grant.inode)) continue;
      const cached = this.#inodes.get(grant.inode) ?? { kinds: 0 };
      cached.kinds |= grant.kinds;
      this.#inodes.delete(grant.inode);
      this.#inodes.set(grant.inode, cached);
    }
    if (isRead(body)) this.#keep(body, reply, stamp);
    this.#evict();
  }

  /** Before a change of this session is sent, and again when it is answered. */
  change(body: OperationBody, reply?: Reply): void {
    if (isRead(body)) return;
    for (const inode of changedInodes(body)) this.#touch(inode);
    switch (body.$case) {
      case 'makeNode':
        this.#dropName(body.value.parent, body.value.name, replaces(body.value.existing));
        break;
      case 'unlink':
        this.#dropName(body.value.parent, body.value.name, true);
        if (reply?.result?.$case === 'unlinked') this.#touch(reply.result.value.inode);
        break;
      case 'link':
        this.#dropName(body.value.parent, body.value.name, false);
        break;
      case 'rename':
        this.#dropName(body.value.parent, body.value.name, true);
        this.#dropName(body.value.newParent, body.value.newName, true);
        break;
      default:
        break;
    }
  }

  recall(recall: { readonly sequence: number; readonly inode: number; readonly kinds: number }): void {
    this.#recalled.set(recall.inode, recall.sequence);
    this.#touched.set(recall.inode, ++this.#stamp);
    const cached = this.#inodes.get(recall.inode);
    if (cached === undefined) return;
    cached.kinds &= ~recall.kinds;
    if (recall.kinds & PROMISE_ATTRIBUTES) cached.attributes = undefined;
    // Names that did not change could be kept, but whether the coordinator still watches them is its own affair.
    if (recall.kinds & PROMISE_ENTRIES) cached.names = undefined;
    if (recall.kinds & PROMISE_DATA) cached.pages = undefined;
    if (cached.kinds === 0) this.#inodes.delete(recall.inode);
  }

  /** Inodes that fell out of the cache; the coordinator is to be told, and `forget` called when it has answered. */
  takeForgotten(): number[] {
    const taken = this.#forgotten;
    this.#forgotten = [];
    return taken;
  }

  /** The coordinator has dropped its promises on these: what was granted meanwhile does not count. */
  forget(inodes: readonly number[]): void {
    for (const inode of inodes) {
      this.#inodes.delete(inode);
      this.#touched.set(inode, ++this.#stamp);
    }
  }

  #keep(body: OperationBody, reply: Reply, stamp: number): void {
    const result = reply.result;
    if (result === undefined) return;
    switch (body.$case) {
      case 'getAttributes':
        if (result.$case === 'attributes') this.#keepAttributes(result.value, stamp);
        return;
      case 'lookup':
        if (result.$case === 'attributes') {
          this.#keepName(body.value.parent, body.value.name, result.value.inode, stamp);
          this.#keepAttributes(result.value, stamp);
        } else if (result.$case === 'failure' && result.value.code === 'not_found')
          this.#keepName(body.value.parent, body.value.name, ABSENT, stamp);
        return;
      case 'resolve': {
        if (result.$case !== 'resolved') return;
        const { found, failure } = result.value;
        let parent = body.value.start;
        for (const [index, attributes] of found.entries()) {
          const name = body.value.names[index];
          if (name !== undefined) this.#keepName(parent, name, attributes.inode, stamp);
          this.#keepAttributes(attributes, stamp);
          parent = attributes.inode;
        }
        const missing = body.value.names[found.length];
        if (failure?.code === 'not_found' && missing !== undefined) this.#keepName(parent, missing, ABSENT, stamp);
        return;
      }
      case 'readDirectory':
        if (result.$case !== 'directory') return;
        for (const entry of result.value.entries) {
          this.#keepName(body.value.inode, entry.name, entry.inode, stamp);
          if (entry.attributes !== undefined) this.#keepAttributes(entry.attributes, stamp);
        }
        return;
      case 'readBlocks': {
        if (result.$case !== 'blocks') return;
        const { inode, first, count } = body.value;
        const cached = this.#writable(inode, PROMISE_DATA, stamp);
        if (cached === undefined) return;
        cached.pages ??= new Map();
        if (cached.pages.size >= CACHED_PAGES_MAX) cached.pages.clear();
        cached.pages.set(`${first}+${count}`, result.value);
        return;
      }
      default:
        return;
    }
  }

  #keepAttributes(attributes: Attributes, stamp: number): void {
    const cached = this.#writable(attributes.inode, PROMISE_ATTRIBUTES, stamp);
    if (cached !== undefined) cached.attributes = attributes;
  }

  #keepName(parent: number, name: Uint8Array, inode: number, stamp: number): void {
    const cached = this.#writable(parent, PROMISE_ENTRIES, stamp);
    if (cached === undefined) return;
    cached.names ??= new Map();
    if (cached.names.size >= CACHED_NAMES_MAX) cached.names.clear();
    cached.names.set(nameKey(name), inode);
  }

  /** The place to keep something of a kind, if there is a promise and nothing has happened to the inode since `stamp`. */
  #writable(inode: number, kind: number, stamp: number): Cached | undefined {
    const cached = this.#inodes.get(inode);
    if (cached === undefined || (cached.kinds & kind) === 0) return undefined;
    return this.#touched.of(inode) < stamp ? cached : undefined;
  }

  #resolve(resolve: Resolve): Result | undefined {
    const found: Attributes[] = [];
    let directory = resolve.start;
    for (const [index, name] of resolve.names.entries()) {
      // Rights are checked on every directory on the way, so their attributes must hold too.
      if (this.#attributes(directory) === undefined) return undefined;
      const child = this.#child(directory, name);
      if (child === undefined) return undefined;
      if (child === ABSENT)
        return { $case: 'resolved', value: { found, linkTarget: Buffer.alloc(0), failure: absent(name) } };
      const attributes = this.#attributes(child);
      if (attributes === undefined) return undefined;
      found.push(attributes);
      const last = index === resolve.names.length - 1;
      if (attributes.type === InodeType.SYMLINK && (!last || resolve.followLast)) return undefined;
      if (!last && attributes.type !== InodeType.DIRECTORY) return undefined;
      directory = child;
    }
    return { $case: 'resolved', value: { found, linkTarget: Buffer.alloc(0), failure: undefined } };
  }

  #attributes(inode: number): Attributes | undefined {
    return this.#use(inode)?.attributes;
  }

  #child(parent: number, name: Uint8Array): number | undefined {
    return this.#use(parent)?.names?.get(nameKey(name));
  }

  #use(inode: number): Cached | undefined {
    const cached = this.#inodes.get(inode);
    if (cached === undefined) return undefined;
    this.#inodes.delete(inode);
    this.#inodes.set(inode, cached);
    return cached;
  }

  #ticketsHold(page: BlockPage): boolean {
    const { seconds } = this.#clock.now();
    return page.chunks.every((chunk) =>
      chunk.replicas.every((replica) => replica.expires !== undefined && replica.expires.seconds > seconds + 1),
    );
  }

  #touch(inode: number): void {
    this.#touched.set(inode, ++this.#stamp);
    const cached = this.#inodes.get(inode);
    if (cached === undefined) return;
    cached.attributes = undefined;
    cached.pages = undefined;
  }

  /** The child's link count or change time moves too. If it is not known which inode it is, all attributes go. */
  #dropName(parent: number, name: Uint8Array, changesChild: boolean): void {
    const key = nameKey(name);
    const names = this.#inodes.get(parent)?.names;
    const child = names?.get(key);
    names?.delete(key);
    if (child === ABSENT || !changesChild) return;
    if (child !== undefined) {
      this.#touch(child);
      return;
    }
    this.#touched.raiseFloor(++this.#stamp);
    for (const cached of this.#inodes.values()) cached.attributes = undefined;
  }

  #evict(): void {
    for (const inode of this.#inodes.keys()) {
      if (this.#inodes.size <= this.#inodesMax) return;
      this.#inodes.delete(inode);
      this.#forgotten.push(inode);
    }
  }
}

/** The last mark of each inode, bounded: for inodes that fell out, the highest mark that fell out is assumed. */
class Marks {
  readonly #max: number;
  readonly #marks = new Map<number, number>();
  #floor = 0;

  constructor(max: number) {
    this.#max = max;
  }

  of(inode: number): number {
    return Math.max(this.#marks.get(inode) ?? 0, this.#floor);
  }

  set(inode: number, mark: number): void {
    this.#marks.delete(inode);
    this.#marks.set(inode, mark);
    if (this.#marks.size <= this.#max) return;
    for (const [oldest, itsMark] of this.#marks) {
      this.#marks.delete(oldest);
      this.raiseFloor(itsMark);
      return;
    }
  }

  raiseFloor(mark: number): void {
    this.#floor = Math.max(this.#floor, mark);
  }
}

function nameKey(name: Uint8Array): string {
  return Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
}

function absent(name: Uint8Array): Failure {
  return { code: 'not_found', message: `Look up '${Buffer.from(name).toString()}'`, details: {} };
}

function replaces(existing: Existing): boolean {
  return existing === Existing.REPLACE || existing === Existing.REPLACE_WITH_MODE;
}
