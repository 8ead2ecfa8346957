/**
 * A file whose bytes come from the disk itself (O_DIRECT), not from what the kernel remembers of it: who looks for bytes that rot must not be
 * shown the good ones of before. The kernel wants offset, length and memory aligned. Memory of a WebAssembly.Memory begins with a
 * page, which Node promises of no buffer; reads go through a window of it and are copied from there: the copy that the kernel would
 * have made.
 *
 * Some file systems cannot do it (some over networks; none outside of Linux): there the file is as any other, and says so.
 */
import { constants, read } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { assert } from '../assert.ts';

const ALIGN_BYTES = 4096;
const WASM_PAGE_BYTES = 64 * 1024;
/** A record of the largest chunk in one read, whatever its offset. */
const WINDOW_BYTES = 6 * 1024 * 1024;
/** One is read while another is copied from. */
const WINDOWS = 2;
/** What the kernel says where it cannot: at the open, or at the first read. */
const NOT_HERE: ReadonlySet<string> = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOTSUP']);

const readAsync = promisify(read);

/** What is needed of it; Node's types do not name it. */
declare const WebAssembly: {
  readonly Memory: new (pages: {
    readonly initial: number;
    readonly maximum: number;
  }) => { readonly buffer: ArrayBuffer };
};

/** Undefined where the file system does not offer it. Throws what opening throws. */
export async function openDirectly(path: string, windows: AlignedWindows): Promise<FileHandle | undefined> {
  const { O_DIRECT, O_RDONLY } = constants;
  if (O_DIRECT === undefined) return undefined;
  let handle: FileHandle | undefined;
  try {
    const opened = await open(path, O_RDONLY | O_DIRECT);
    handle = opened;
    await windows.use((memory) => readAsync(opened.fd, memory, 0, ALIGN_BYTES, 0));
    return opened;
  } catch (error) {
    await handle?.close();
    const { code = '', syscall } = error as NodeJS.ErrnoException;
    if (NOT_HERE.has(code)) return undefined;
    // What is wrong with the first bytes is said to whoever reads them.
    if (syscall === 'read') return await open(path, O_RDONLY | O_DIRECT);
    throw error;
  }
}

/** Any offset and any memory: what is read around the wanted bytes stays in the window. Answers how many there were. */
export async function readDirectly(
  handle: FileHandle,
  offset: number,
  into: Uint8Array,
  windows: AlignedWindows,
): Promise<number> {
  for (let done = 0; ; ) {
    if (done === into.length) return done;
    const from = offset + done;
    const before = from % ALIGN_BYTES;
    const wanted = Math.min(WINDOW_BYTES, alignedUp(before + into.length - done));
    const [bytesRead, taken] = await windows.use(async (memory) => {
      const { bytesRead } = await readAsync(handle.fd, memory, 0, wanted, from - before);
      const taken = Math.max(0, Math.min(bytesRead - before, into.length - done));
      into.set(memory.subarray(before, before + taken), done);
      return [bytesRead, taken] as const;
    });
    done += taken;
    // At its end a file gives no whole block; before it, less may come because of a bad place, which the next read meets.
    if (bytesRead % ALIGN_BYTES !== 0 || bytesRead === 0) return done;
  }
}

/** Memory for as many reads as a disk needs to be never idle: whoever comes meanwhile waits. Made when it is first used. */
export class AlignedWindows {
  readonly #windows = Array.from({ length: WINDOWS }, () => ({
    memory: undefined as Uint8Array | undefined,
    last: Promise.resolve() as Promise<unknown>,
  }));
  #next = 0;

  use<T>(act: (memory: Uint8Array) => Promise<T>): Promise<T> {
    const window = this.#windows[this.#next++ % WINDOWS];
    assert(window !== undefined, 'there are so many windows');
    const mine = window.last.then(() => {
      window.memory ??= alignedMemory(WINDOW_BYTES);
      return act(window.memory);
    });
    window.last = mine.catch(() => undefined);
    return mine;
  }
}

/** Memory that the kernel takes for such reads; `bytes`: a multiple of 64 KiB. */
export function alignedMemory(bytes: number): Uint8Array {
  const pages = bytes / WASM_PAGE_BYTES;
  return new Uint8Array(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer);
}

function alignedUp(bytes: number): number {
  return Math.ceil(bytes / ALIGN_BYTES) * ALIGN_BYTES;
}
