/**
 * Stores a whole file under a path. Few blocks: one create-with-slices operation. More: a hidden partial file beside the
 * target, grown by commits and renamed over the target at the end. With `resume` the partial file has a name that follows
 * from its source and carries the source's identity, so that a later try finds it and goes on behind what is committed.
 */
import type { Timestamp } from '@collective/base/clock';
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FILE_BYTES_MAX, NAME_BYTES_MAX } from '@collective/base/limits';
import {
  type Content,
  Existing,
  InodeType,
  type Lock,
  LockFamily,
  LockType,
  RenameMode,
  type Attributes as WireAttributes,
} from '@collective/protocol/gen/session';
import type { SourceIdentity, WriteOptions, WriteSource } from '../api.ts';
import { expectResult } from '../session/operation-kinds.ts';
import {
  commitBlocks,
  forgetBytes,
  GrowingFile,
  type StoredBlock,
  type StoreOptions,
  storeBlock,
  storeBlocks,
  WHOLE_FILE_BLOCKS_MAX,
} from '../transfer/upload.ts';
import { type FileContext, NEVER_ABORTED, settingsOf } from './file-context.ts';
import { parsePath } from './path.ts';
import type { ResolvedEntry } from './path-resolver.ts';

const DEFAULT_MODE = 0o644;
const SOURCE_XATTR = 'user.collective.source';
/**
 * A resumable partial file grows under a lock, so that two tries for one source do not mix. A try whose process was killed
 * keeps its lock until its session ends, but has no connection: the next try takes over by locking the byte behind. Should
 * the earlier one come back, both write the same bytes to the same places, and the second to finish finds the name gone.
 */
const UPLOAD_TAKEOVERS_MAX = 100;

export async function writeFile(
  context: FileContext,
  path: string,
  source: WriteSource,
  options: WriteOptions,
): Promise<WireAttributes> {
  if (parsePath(path).length === 0) throw new CollectiveError('is_directory', 'Write the root');
  const entry = await context.paths.entry(path, { followLast: true, signal: options.signal });
  if (entry.existing !== undefined) {
    if (options.replace === false) throw new CollectiveError('exists', `Create ${entry.name}`);
    if (entry.existing.type === InodeType.DIRECTORY) throw new CollectiveError('is_directory', `Write ${entry.name}`);
    if (entry.existing.type !== InodeType.FILE)
      throw new CollectiveError('invalid_argument', `Write ${entry.name}: it is neither a file nor free`);
  }
  return await new FileWriting(context, entry, options).run(source);
}

class FileWriting {
  readonly #context: FileContext;
  readonly #entry: ResolvedEntry;
  readonly #options: WriteOptions;
  readonly #signal: AbortSignal;
  readonly #mode: number;
  #storedBytes = 0;

  constructor(context: FileContext, entry: ResolvedEntry, options: WriteOptions) {
    this.#context = context;
    this.#entry = entry;
    this.#options = options;
    this.#signal = options.signal ?? NEVER_ABORTED;
    this.#mode = options.mode ?? entry.existing?.mode ?? DEFAULT_MODE;
  }

  async run(source: WriteSource): Promise<WireAttributes> {
    const resumed = await this.#findPartial();
    if (resumed !== undefined) return await this.#grow(resumed, this.#from(resumed.size, source), []);
    const { resume } = this.#options;
    if (resume !== undefined && resume.identity.sizeBytes > WHOLE_FILE_BLOCKS_MAX * BLOCK_BYTES) {
      const partial = await this.#makePartial();
      return await this.#grow(partial, this.#from(0, source), []);
    }
    if (source instanceof Uint8Array && source.length <= BLOCK_BYTES) return await this.#writeSmall(source);
    const blocks = storeBlocks(this.#context.upload, source, this.#storeOptions(0, 0), this.#signal);
    const whole: StoredBlock[] = [];
    try {
      for (;;) {
        const next = await blocks.next();
        if (next.done) return await this.#createWhole(whole);
        this.#progress(next.value.length);
        whole.push(next.value);
        if (whole.length <= WHOLE_FILE_BLOCKS_MAX) continue;
        const partial = await this.#makePartial();
        return await this.#grow(partial, blocks, whole.splice(0));
      }
    } finally {
      for (const block of whole) forgetBytes(this.#context.upload, block);
      await blocks.return();
    }
  }

  /** The way of a small file, which there are many of: nothing runs beside it. */
  async #writeSmall(bytes: Uint8Array): Promise<WireAttributes> {
    if (bytes.length === 0) return await this.#createWhole([]);
    const { upload } = this.#context;
    await upload.inFlight.acquire(bytes.length, this.#signal);
    let block: StoredBlock | undefined;
    try {
      const cut = { index: 0, pieces: [bytes], length: bytes.length };
      block = await storeBlock(upload, cut, this.#storeOptions(0, 0), this.#signal);
      this.#progress(bytes.length);
      return await this.#createWhole([block]);
    } finally {
      upload.inFlight.release(bytes.length);
      if (block !== undefined) forgetBytes(upload, block);
    }
  }

  async #createWhole(blocks: readonly StoredBlock[]): Promise<WireAttributes> {
    const size = sizeOf(blocks);
    return await commitBlocks(
      this.#context.upload,
      blocks,
      (slices, chunks) =>
        this.#create(this.#entry.name, this.#mode, this.#existing(), {
          size,
          slices,
          chunks,
          mtime: this.#options.modified,
          xattrs: [],
        }),
      this.#signal,
    );
  }

  /** A file that takes the place of an older one keeps that one's mode, unless another is asked for: then in the same step. */
  #existing(): Existing {
    if (this.#options.replace === false) return Existing.FAIL;
    return this.#options.mode === undefined ? Existing.REPLACE : Existing.REPLACE_WITH_MODE;
  }

  async #grow(
    partial: WireAttributes & { readonly partialName: string },
    rest: AsyncGenerator<StoredBlock, void, undefined>,
    first: readonly StoredBlock[],
  ): Promise<WireAttributes> {
    const file = new GrowingFile({
      ports: this.#context.upload,
      inode: partial.inode,
      mtime: this.#options.modified,
      durability: this.#options.durability ?? 'stable',
      signal: this.#signal,
    });
    try {
      for (const block of first) await file.add(block);
      for await (const block of rest) {
        if (block.offset + block.length > FILE_BYTES_MAX)
          throw new CollectiveError('too_large', `Write ${this.#entry.name}: more than ${FILE_BYTES_MAX} bytes`);
        this.#progress(block.length);
        await file.add(block);
      }
      const attributes = (await file.finish()) ?? partial;
      await this.#takeName(partial);
      return { ...attributes, mode: this.#mode };
    } catch (error) {
      await file.finish().catch(() => undefined);
      if (this.#options.resume === undefined) await this.#removePartial(partial.partialName);
      throw error;
    } finally {
      for (const block of first) forgetBytes(this.#context.upload, block);
      await rest.return();
      if (this.#options.resume !== undefined) await this.#unlock(partial.inode);
    }
  }

  async #takeName(partial: WireAttributes & { readonly partialName: string }): Promise<void> {
    const { session } = this.#context;
    const { parent, name } = this.#entry;
    const settings = settingsOf(this.#options);
    if (this.#options.resume !== undefined)
      await session.call({ $case: 'removeXattr', value: { inode: partial.inode, name: SOURCE_XATTR } }, settings);
    await session.call(
      {
        $case: 'rename',
        value: {
          parent: parent.inode,
          name: Buffer.from(partial.partialName),
          newParent: parent.inode,
          newName: Buffer.from(name),
          mode: this.#options.replace === false ? RenameMode.RENAME_NOREPLACE : RenameMode.RENAME_REPLACE,
          targetHeld: this.#context.open.hold(this.#entry.existing?.inode),
          targetInode: this.#entry.existing?.inode ?? 0,
        },
      },
      settings,
    );
  }

  // ---- the partial file ----

  async #makePartial(): Promise<WireAttributes & { readonly partialName: string }> {
    const { resume } = this.#options;
    const xattrs = resume === undefined ? [] : [{ name: SOURCE_XATTR, value: identityBytes(resume.identity) }];
    const content = { size: 0, slices: [], chunks: [], mtime: undefined, xattrs };
    const names = resume === undefined ? [] : [this.#resumableName(resume.identity)];
    for (const partialName of [...names, this.#randomName()]) {
      try {
        const attributes = await this.#create(partialName, this.#mode, Existing.FAIL, content);
        if (resume !== undefined) await this.#takeOver(attributes.inode);
        return { ...attributes, partialName };
      } catch (error) {
        // Somebody else stores the same source right now; this try cannot be resumed, but it can be made.
        if (!(error instanceof CollectiveError) || error.code !== 'exists') throw error;
      }
    }
    throw new CollectiveError('exists', `Make a partial file for ${this.#entry.name}`);
  }

  /** What an earlier try for the same source left behind, if nobody is at work on it. */
  async #findPartial(): Promise<(WireAttributes & { readonly partialName: string }) | undefined> {
    const { resume } = this.#options;
    if (resume === undefined) return undefined;
    const { session } = this.#context;
    const partialName = this.#resumableName(resume.identity);
    const signal = this.#options.signal;
    try {
      const lookup = { parent: this.#entry.parent.inode, name: Buffer.from(partialName) };
      const found = expectResult(await session.call({ $case: 'lookup', value: lookup }, { signal }), 'attributes');
      const request = { inode: found.inode, name: SOURCE_XATTR };
      const { value } = expectResult(
        await session.call({ $case: 'getXattr', value: request }, { signal }),
        'xattrValue',
      );
      if (!value.equals(identityBytes(resume.identity))) return undefined;
      if (!(await this.#takeOver(found.inode))) return undefined;
      // Commits are in order, so all below the size is there; a block that is not whole cannot be added to.
      const size = found.size - (found.size % BLOCK_BYTES);
      return { ...found, size, partialName };
    } catch (error) {
      if (error instanceof CollectiveError && (error.code === 'not_found' || error.code === 'no_attribute'))
        return undefined;
      throw error;
    }
  }

  #from(offset: number, source: WriteSource): AsyncGenerator<StoredBlock, void, undefined> {
    this.#progress(offset);
    const { resume } = this.#options;
    const rest = resume === undefined || offset === 0 ? source : resume.source(offset);
    return storeBlocks(this.#context.upload, rest, this.#storeOptions(0, offset / BLOCK_BYTES), this.#signal);
  }

  /** Whether the partial file is ours to grow: false while somebody who is connected does. */
  async #takeOver(inode: number): Promise<boolean> {
    for (let turn = 0; turn < UPLOAD_TAKEOVERS_MAX; turn++) {
      if (await this.#tryLock(inode, turn)) return true;
      const reply = await this.#context.session.call(
        { $case: 'getLock', value: { inode, lock: uploadLock(LockType.LOCK_WRITE, turn) } },
        { signal: this.#options.signal },
      );
      const { conflict, holderAway } = expectResult(reply, 'lock');
      if (conflict !== undefined && !holderAway) return false;
    }
    return false;
  }

  async #tryLock(inode: number, turn: number): Promise<boolean> {
    const lock = uploadLock(LockType.LOCK_WRITE, turn);
    try {
      await this.#context.session.call(
        { $case: 'setLock', value: { inode, lock, wait: false } },
        { signal: this.#options.signal },
      );
      return true;
    } catch (error) {
      if (error instanceof CollectiveError && error.code === 'would_block') return false;
      throw error;
    }
  }

  async #unlock(inode: number): Promise<void> {
    const lock = { ...uploadLock(LockType.LOCK_UNLOCK, 0), end: UPLOAD_TAKEOVERS_MAX };
    // If it cannot be given back, it ends with the session.
    await this.#context.session.call({ $case: 'setLock', value: { inode, lock, wait: false } }).catch(() => undefined);
  }

  async #removePartial(partialName: string): Promise<void> {
    const { parent } = this.#entry;
    const value = {
      parent: parent.inode,
      name: Buffer.from(partialName),
      directory: false,
      held: false,
      expectedInode: 0,
      permanent: true,
    };
    // The upload has failed already, and that is what the caller must hear; a partial file left behind is hidden and named as such.
    await this.#context.session.call({ $case: 'unlink', value }, { durability: 'written' }).catch(() => undefined);
  }

  #resumableName(identity: SourceIdentity): string {
    return partialName(this.#entry.name, crc32(identityBytes(identity)).toString(16).padStart(8, '0'));
  }

  #randomName(): string {
    return partialName(this.#entry.name, this.#context.random.bytes(6).toString('hex'));
  }

  // ---- shared ----

  async #create(name: string, mode: number, existing: Existing, content: Content): Promise<WireAttributes> {
    const reply = await this.#context.session.call(
      {
        $case: 'makeNode',
        value: {
          parent: this.#entry.parent.inode,
          name: Buffer.from(name),
          type: InodeType.FILE,
          mode,
          umask: 0,
          rdev: 0,
          linkTarget: Buffer.alloc(0),
          existing,
          content,
          targetHeld: existing !== Existing.FAIL && this.#context.open.hold(this.#entry.existing?.inode),
          targetInode: this.#entry.existing?.inode ?? 0,
        },
      },
      settingsOf(this.#options),
    );
    return expectResult(reply, 'attributes');
  }

  #storeOptions(inode: number, startBlock: number): StoreOptions {
    const { realm } = this.#entry.parent;
    return {
      realm,
      inode,
      startBlock,
      compress: this.#context.compresses(realm),
      keepsBroken: this.#options.resume !== undefined,
      stable: (this.#options.durability ?? 'stable') === 'stable',
    };
  }

  #progress(bytes: number): void {
    this.#storedBytes += bytes;
    this.#options.onProgress?.({ storedBytes: this.#storedBytes, totalBytes: this.#options.sizeHintBytes });
  }
}

function uploadLock(type: LockType, turn: number): Lock {
  return { family: LockFamily.LOCK_POSIX, type, owner: 1, start: turn, end: turn, pid: 0 };
}

function partialName(name: string, mark: string): string {
  const ending = `.${mark}.partial`;
  let kept = name;
  while (Buffer.byteLength(kept) + ending.length + 1 > NAME_BYTES_MAX) kept = [...kept].slice(0, -1).join('');
  return `.${kept}${ending}`;
}

function identityBytes({ sizeBytes, modified }: { sizeBytes: number; modified: Timestamp }): Buffer {
  return Buffer.from(`${sizeBytes} ${modified.seconds}.${modified.nanos.toString().padStart(9, '0')}`);
}

function sizeOf(blocks: readonly StoredBlock[]): number {
  const last = blocks.at(-1);
  return last === undefined ? 0 : last.offset + last.length;
}
