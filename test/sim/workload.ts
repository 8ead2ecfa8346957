/**
 * Draws what a client does next: mostly in directories that it shares with others, on few names, so that clients meet; some
 * in its own. Offsets gather around the edges of frames and blocks.
 */
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import { pickOne, type Random, randomBelow } from '@collective/base/random';
import type { Action } from './actions.ts';

export const SHARED_FOLDERS: readonly string[] = ['/s0', '/s1'];
const FILE_NAMES = ['f0', 'f1', 'f2', 'f3'];
const FOLDER_NAMES = ['d0', 'd1'];
const LINK_NAMES = ['l0', 'l1'];
const XATTR_NAMES = ['user.x0', 'user.x1'];
const HANDLES_MAX = 3;
const RENAME_MODES = ['replace', 'replace', 'no-replace', 'exchange'] as const;
const XATTR_MODES = ['any', 'any', 'create', 'replace'] as const;
const MODES = [0o644, 0o600, 0o640, 0o755];

export interface WorkloadOptions {
  readonly random: Random;
  /** Names its handles. */
  readonly client: string;
  readonly ownFolder: string;
  readonly saving: boolean;
  /** Some contents are as large as this, where bytes are to run out; undefined: none. */
  readonly contentBytesMax: number | undefined;
}

export class Workload {
  readonly #random: Random;
  readonly #client: string;
  readonly #folders: readonly string[];
  /** Open handles by name. */
  readonly #handles: string[] = [];
  readonly #saving: boolean;
  readonly #contentBytesMax: number | undefined;
  #number = 0;
  /** The new content was stored, and is to take the place of the old one next. */
  #isStored = false;

  constructor({ random, client, ownFolder, saving, contentBytesMax }: WorkloadOptions) {
    this.#random = random;
    this.#contentBytesMax = contentBytesMax;
    this.#saving = saving;
    this.#client = client;
    this.#folders = [...SHARED_FOLDERS, ...SHARED_FOLDERS, ownFolder];
  }

  next(): Action {
    if (this.#saving && (this.#isStored || randomBelow(this.#random, 2) === 0)) return this.#save();
    const choice = randomBelow(this.#random, 100);
    if (this.#handles.length > 0 && choice < 45) return this.#onHandle();
    if (choice < 60) return this.#makeOrOpen();
    if (choice < 80) return this.#look();
    return this.#change();
  }

  /** An open that did not succeed leaves no handle. */
  failed(action: Action): void {
    if (action.do === 'create' || action.do === 'open') this.#forget(action.handle);
  }

  /** The session was lost, and its open files with it. */
  forgetHandles(): void {
    this.#handles.length = 0;
  }

  /** As editors do: the new content in a file of its own, then over the old one. */
  #save(): Action {
    const random = this.#random;
    const from = `${this.#folders.at(-1)}/${FILE_NAMES[0]}`;
    this.#isStored = !this.#isStored;
    if (this.#isStored) return { do: 'store', path: from, bytes: this.#bytes(), replace: true };
    return {
      do: 'rename',
      from,
      to: `${pickOne(random, SHARED_FOLDERS)}/${pickOne(random, FILE_NAMES)}`,
      mode: 'replace',
    };
  }

  #onHandle(): Action {
    const random = this.#random;
    const handle = pickOne(random, this.#handles);
    const choice = randomBelow(random, 20);
    if (choice < 6) return { do: 'write', handle, offset: this.#offset(), bytes: this.#bytes() };
    if (choice < 8) return { do: 'append', handle, bytes: this.#bytes() };
    if (choice < 13) return { do: 'read', handle, offset: this.#offset(), length: this.#length() };
    if (choice < 14) return { do: 'truncate', handle, size: this.#offset() };
    if (choice < 15) return { do: 'attributes', handle };
    if (choice < 17) return { do: 'sync', handle };
    this.#forget(handle);
    return { do: 'close', handle };
  }

  #makeOrOpen(): Action {
    const random = this.#random;
    const choice = randomBelow(random, 10);
    if (choice < 3) return { do: 'mkdir', path: this.#folder(), mode: 0o755 };
    if (choice < 6) {
      const replace = randomBelow(random, 3) > 0;
      const mode = randomBelow(random, 2) === 0 ? undefined : pickOne(random, MODES);
      return { do: 'store', path: this.#file(), bytes: this.#bytes(), replace, mode };
    }
    if (choice < 7 || this.#handles.length >= HANDLES_MAX)
      return { do: 'symlink', path: this.#in(LINK_NAMES), target: `nowhere/${randomBelow(random, 100)}` };
    const handle = `${this.#client}h${++this.#number}`;
    this.#handles.push(handle);
    if (choice < 9)
      return {
        do: 'create',
        path: this.#file(),
        mode: pickOne(random, MODES),
        exclusive: randomBelow(random, 3) === 0,
        handle,
      };
    return { do: 'open', path: this.#file(), handle };
  }

  #look(): Action {
    const random = this.#random;
    const choice = randomBelow(random, 20);
    if (choice < 8) return { do: 'lstat', path: this.#any() };
    if (choice < 15) return { do: 'list', path: pickOne(random, this.#folders) };
    if (choice < 17) return { do: 'getXattr', path: this.#file(), name: pickOne(random, XATTR_NAMES) };
    if (choice < 18) return { do: 'listXattrs', path: this.#file() };
    return { do: 'readlink', path: this.#in(LINK_NAMES) };
  }

  #change(): Action {
    const random = this.#random;
    const choice = randomBelow(random, 20);
    if (choice < 7) {
      const mode = pickOne(random, RENAME_MODES);
      const kind = randomBelow(random, 10);
      if (kind < 6) return { do: 'rename', from: this.#file(), to: this.#file(), mode };
      if (kind < 8) return { do: 'rename', from: this.#folder(), to: this.#folder(), mode };
      if (kind < 9) return { do: 'rename', from: this.#in(LINK_NAMES), to: this.#in(LINK_NAMES), mode };
      return { do: 'rename', from: this.#file(), to: this.#folder(), mode };
    }
    if (choice < 12) return { do: 'remove', path: this.#any() };
    if (choice < 14) return { do: 'link', existing: this.#file(), path: this.#file() };
    if (choice < 16) return { do: 'chmod', path: this.#file(), mode: pickOne(random, MODES) };
    if (choice < 17) return { do: 'resize', path: this.#file(), size: this.#offset() };
    const name = pickOne(random, XATTR_NAMES);
    if (choice < 19)
      return {
        do: 'setXattr',
        path: this.#file(),
        name,
        value: `v${randomBelow(random, 1000)}`,
        mode: pickOne(random, XATTR_MODES),
      };
    return { do: 'removeXattr', path: this.#file(), name };
  }

  #in(names: readonly string[]): string {
    return `${pickOne(this.#random, this.#folders)}/${pickOne(this.#random, names)}`;
  }

  #file(): string {
    return this.#in(FILE_NAMES);
  }

  #folder(): string {
    return this.#in(FOLDER_NAMES);
  }

  #any(): string {
    const choice = randomBelow(this.#random, 10);
    return choice < 6 ? this.#file() : choice < 8 ? this.#folder() : this.#in(LINK_NAMES);
  }

  #offset(): number {
    const random = this.#random;
    const choice = randomBelow(random, 40);
    if (choice < 30) return randomBelow(random, 3_000);
    if (choice < 36) return FRAME_BYTES - 500 + randomBelow(random, 1_000);
    return BLOCK_BYTES - 500 + randomBelow(random, 1_000);
  }

  #length(): number {
    return randomBelow(this.#random, 10) === 0 ? FRAME_BYTES + 5_000 : 1 + randomBelow(this.#random, 3_000);
  }

  /** Bytes that say who wrote them, so that a mix is found; some compress, some do not. */
  #bytes(): Buffer {
    const random = this.#random;
    const length = this.#contentLength();
    const bytes = Buffer.alloc(length, random.bytes(randomBelow(random, 2) === 0 ? 8 : 4096));
    bytes[0] = 1 + randomBelow(random, 255);
    return bytes;
  }

  #contentLength(): number {
    const random = this.#random;
    const most = this.#contentBytesMax;
    if (most !== undefined && randomBelow(random, 3) === 0) return 1 + randomBelow(random, most);
    return randomBelow(random, 25) === 0 ? FRAME_BYTES + randomBelow(random, 3_000) : 1 + randomBelow(random, 2_000);
  }

  #forget(handle: string): void {
    const at = this.#handles.indexOf(handle);
    if (at >= 0) this.#handles.splice(at, 1);
  }
}
