/**
 * What lies on a fake disk, and what of it is only in the page cache. Of every file and every folder it keeps two states:
 * *live*, which all processes of the machine see, and *stable*, which a power loss leaves. A change moves from live to
 * stable by a sync that began after the change had ended, and by nothing else that one may count on.
 *
 * Power loss keeps, drops or tears each unsynced write by sectors, and keeps or drops each unsynced name; two changes of
 * one name keep their order. A failed sync marks its pages clean: some of them reached the disk, none is ever written again.
 */
import { assert } from '../assert.ts';
import { CollectiveError } from '../errors/index.ts';
import { type Random, randomBelow } from '../random.ts';

const FILE_BYTES_MAX = 1024 ** 3;
const SECTOR_SIZES = [512, 4096] as const;

type Change =
  | { readonly kind: 'write'; readonly order: number; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly order: number; readonly size: number };

/** The bytes of a file, without its names. */
export class FakeContent {
  readonly #live = new Bytes();
  readonly #stable = new Bytes();
  #pending: Change[] = [];
  #order = 0;
  #syncFailed = false;

  get size(): number {
    return this.#live.size;
  }

  /** Bytes that a power loss may take. */
  get unsyncedBytes(): number {
    return this.#pending.reduce((sum, change) => sum + (change.kind === 'write' ? change.bytes.length : 0), 0);
  }

  /** A power loss would change nothing. After a failed sync there may be nothing left to be synced, and yet it would. */
  get isStable(): boolean {
    return this.#pending.length === 0 && (!this.#syncFailed || this.#live.equals(this.#stable));
  }

  readInto(offset: number, into: Uint8Array): number {
    return this.#live.readInto(offset, into);
  }

  write(offset: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#live.write(offset, bytes);
    this.#pending.push({ kind: 'write', order: this.#order++, offset, bytes: Buffer.from(bytes) });
  }

  truncate(size: number): void {
    this.#live.truncate(size);
    this.#pending.push({ kind: 'truncate', order: this.#order++, size });
  }

  /** A sync that begins now covers the changes so far: hand the mark to `endSync` or `failSync`. */
  beginSync(): number {
    return this.#order;
  }

  endSync(mark: number): void {
    for (const change of this.#takeUpTo(mark)) {
      if (change.kind === 'write') this.#stable.write(change.offset, change.bytes);
      else this.#stable.truncate(change.size);
    }
  }

  failSync(mark: number, random: Random): void {
    this.#syncFailed = true;
    this.#keepSome(this.#takeUpTo(mark), random);
  }

  powerLoss(random: Random): void {
    this.#keepSome(this.#takeUpTo(this.#order), random);
    this.#live.copyFrom(this.#stable);
  }

  /** The kernel drops its clean pages: what a failed sync lost now shows its earlier bytes. */
  evictCleanPages(): void {
    this.#live.copyFrom(this.#stable);
    for (const change of this.#pending) {
      if (change.kind === 'write') this.#live.write(change.offset, change.bytes);
      else this.#live.truncate(change.size);
    }
  }

  flipBit(offset: number, bit: number): void {
    this.#live.flipBit(offset, bit);
    this.#stable.flipBit(offset, bit);
  }

  #takeUpTo(mark: number): Change[] {
    const taken = this.#pending.filter((change) => change.order < mark);
    this.#pending = this.#pending.filter((change) => change.order >= mark);
    return taken;
  }

  /** The drive and the kernel choose what of the unsynced changes gets to the disk, in one of four manners. */
  #keepSome(changes: readonly Change[], random: Random): void {
    if (changes.length === 0) return;
    const sectorBytes = SECTOR_SIZES[randomBelow(random, SECTOR_SIZES.length)] ?? 512;
    const manner = randomBelow(random, 8);
    if (manner === 0) return; // nothing
    const keepTo = manner <= 3 ? randomBelow(random, changes.length + 1) : changes.length; // a beginning, its end torn
    const inAnyOrder = manner >= 6;
    for (const [i, change] of changes.entries()) {
      if (i > keepTo) return;
      if (change.kind === 'truncate') {
        if (inAnyOrder ? randomBelow(random, 2) === 0 : i < keepTo) this.#stable.truncate(change.size);
      } else if (inAnyOrder || i === keepTo) {
        this.#keepSectors(change, sectorBytes, random, inAnyOrder);
      } else {
        this.#stable.write(change.offset, change.bytes);
      }
    }
  }

  #keepSectors(change: Change & { kind: 'write' }, sectorBytes: number, random: Random, inAnyOrder: boolean): void {
    const { offset, bytes } = change;
    let at = 0;
    while (at < bytes.length) {
      const sectorEnd = Math.min(bytes.length, at + sectorBytes - ((offset + at) % sectorBytes));
      if (randomBelow(random, 3) > 0) this.#stable.write(offset + at, bytes.subarray(at, sectorEnd));
      else if (!inAnyOrder) return;
      at = sectorEnd;
    }
    // Some file systems grow the size before the bytes arrive: then there are zeros.
    if (randomBelow(random, 4) === 0 && this.#stable.size < offset + bytes.length)
      this.#stable.truncate(offset + bytes.length);
  }
}

export class FakeFolder {
  readonly entries = new Map<string, FakeNode>();
  readonly stableEntries = new Map<string, FakeNode>();
}

export type FakeNode = FakeContent | FakeFolder;

interface NameSlot {
  readonly folder: FakeFolder;
  readonly name: string;
  readonly node: FakeNode | undefined;
}

/** One change of names that happens whole or not at all: a rename takes one slot's node and fills another's. */
type NameChange = readonly NameSlot[];

export class FakePlatter {
  /** May be changed at any time: other programs fill the disk and make room again. */
  capacityBytes: number;
  /** Breaks the disk on purpose: syncs answer well and do nothing. To prove that a test notices. */
  ignoreSyncs = false;
  readonly #root = new FakeFolder();
  #names: NameChange[] = [];

  constructor(options: { capacityBytes?: number } = {}) {
    this.capacityBytes = options.capacityBytes ?? 1024 ** 3;
  }

  get usedBytes(): number {
    let sum = 0;
    for (const { content } of this.files()) sum += content.size;
    return sum;
  }

  get freeBytes(): number {
    return Math.max(0, this.capacityBytes - this.usedBytes);
  }

  /** A power loss would take no bytes and no names; it might bring names back. */
  get isStable(): boolean {
    const adds = (change: NameChange): boolean => change.some(({ node }) => node !== undefined);
    return !this.#names.some(adds) && this.files().every(({ content }) => content.isStable);
  }

  /** All files with their paths, in the order of the paths. */
  files(): { path: string; content: FakeContent }[] {
    const found: { path: string; content: FakeContent }[] = [];
    const walk = (folder: FakeFolder, prefix: string): void => {
      for (const [name, node] of [...folder.entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (node instanceof FakeFolder) walk(node, `${prefix}${name}/`);
        else found.push({ path: prefix + name, content: node });
      }
    };
    walk(this.#root, '');
    return found;
  }

  find(path: string): FakeNode | undefined {
    let node: FakeNode | undefined = this.#root;
    for (const name of namesOf(path)) {
      if (!(node instanceof FakeFolder)) return undefined;
      node = node.entries.get(name);
    }
    return node;
  }

  create(path: string): FakeContent {
    const content = new FakeContent();
    this.#change([this.#slot(path, content)]);
    return content;
  }

  makeFolders(path: string): void {
    let folder = this.#root;
    for (const name of namesOf(path)) {
      let next = folder.entries.get(name);
      if (next === undefined) {
        next = new FakeFolder();
        this.#change([{ folder, name, node: next }]);
      }
      if (!(next instanceof FakeFolder)) throw new CollectiveError('not_directory', `Make the folder ${path}`);
      folder = next;
    }
  }

  remove(path: string): void {
    this.#change([this.#slot(path, undefined)]);
  }

  rename(from: string, to: string): void {
    const node = this.find(from);
    if (node === undefined) throw new CollectiveError('not_found', `Rename ${from} to ${to}`);
    this.#change([this.#slot(from, undefined), this.#slot(to, node)]);
  }

  syncFolder(path: string): void {
    const folder = this.folderAt(path);
    if (this.ignoreSyncs) return;
    // A change can only become stable with all earlier ones that touch the same names.
    const chosen: boolean[] = [];
    for (let i = this.#names.length - 1; i >= 0; i--) {
      const change = this.#names[i] ?? [];
      const neededLater = this.#names.some((later, j) => j > i && chosen[j] === true && sharesName(change, later));
      chosen[i] = neededLater || change.some((slot) => slot.folder === folder);
    }
    const synced = this.#names.filter((_, i) => chosen[i]);
    this.#names = this.#names.filter((_, i) => !chosen[i]);
    synced.forEach(makeStable);
  }

  folderAt(path: string): FakeFolder {
    const folder = this.find(path);
    if (folder instanceof FakeFolder) return folder;
    throw new CollectiveError(folder === undefined ? 'not_found' : 'not_directory', `Use the folder '${path}'`);
  }

  /** Everything that is only in the page cache is at risk. Open files and locks must be dropped by their owners. */
  powerLoss(random: Random): void {
    this.#keepSomeNames(random);
    const contents = new Set<FakeContent>();
    const walk = (folder: FakeFolder): void => {
      folder.entries.clear();
      for (const [name, node] of folder.stableEntries) {
        folder.entries.set(name, node);
        if (node instanceof FakeFolder) walk(node);
        else contents.add(node);
      }
    };
    walk(this.#root);
    for (const content of contents) content.powerLoss(random);
  }

  evictCleanPages(): void {
    for (const { content } of this.files()) content.evictCleanPages();
  }

  #keepSomeNames(random: Random): void {
    const changes = this.#names;
    this.#names = [];
    const asJournal = randomBelow(random, 2) === 0;
    const keepTo = randomBelow(random, changes.length + 1);
    const dropped: NameChange[] = [];
    for (const [i, change] of changes.entries()) {
      const keep = asJournal ? i < keepTo : randomBelow(random, 2) === 0;
      if (keep && !dropped.some((earlier) => sharesName(earlier, change))) makeStable(change);
      else dropped.push(change);
    }
  }

  #change(change: NameChange): void {
    for (const { folder, name, node } of change) {
      if (node === undefined) folder.entries.delete(name);
      else folder.entries.set(name, node);
    }
    this.#names.push(change);
  }

  #slot(path: string, node: FakeNode | undefined): NameSlot {
    const names = namesOf(path);
    const name = names.pop();
    if (name === undefined) throw new CollectiveError('invalid_argument', `Use '${path}' as the path of a file`);
    return { folder: this.folderAt(names.join('/')), name, node };
  }
}

function makeStable(change: NameChange): void {
  for (const { folder, name, node } of change) {
    if (node === undefined) folder.stableEntries.delete(name);
    else folder.stableEntries.set(name, node);
  }
}

function sharesName(a: NameChange, b: NameChange): boolean {
  return a.some((x) => b.some((y) => x.folder === y.folder && x.name === y.name));
}

export function namesOf(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  if (path.startsWith('/') || names.includes('..') || names.includes('.'))
    throw new CollectiveError('invalid_argument', `Use the path '${path}': it must be relative, without '.' and '..'`);
  return names;
}

/** A byte array that grows; what was never written reads as zeros. */
class Bytes {
  size = 0;
  #buffer = Buffer.alloc(0);

  readInto(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    if (length > 0) into.set(this.#buffer.subarray(offset, offset + length));
    return length;
  }

  write(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    this.#reserve(end);
    this.#buffer.set(bytes, offset);
    this.size = Math.max(this.size, end);
  }

  truncate(size: number): void {
    this.#reserve(size);
    if (size < this.size) this.#buffer.fill(0, size, this.size);
    this.size = size;
  }

  equals(other: Bytes): boolean {
    return this.#buffer.subarray(0, this.size).equals(other.#buffer.subarray(0, other.size));
  }

  copyFrom(other: Bytes): void {
    this.truncate(0);
    this.#reserve(other.size);
    this.size = other.size;
    other.readInto(0, this.#buffer.subarray(0, other.size));
  }

  flipBit(offset: number, bit: number): void {
    if (offset < this.size) this.#buffer.writeUInt8(this.#buffer.readUInt8(offset) ^ (1 << bit), offset);
  }

  #reserve(size: number): void {
    assert(size <= FILE_BYTES_MAX, `a file of the fake disk has at most ${FILE_BYTES_MAX} bytes`);
    if (size <= this.#buffer.length) return;
    const larger = Buffer.alloc(Math.max(4096, size, this.#buffer.length * 2));
    larger.set(this.#buffer.subarray(0, this.size));
    this.#buffer = larger;
  }
}
