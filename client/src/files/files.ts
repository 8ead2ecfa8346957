/** The file operations of the public API. Each gives its path to what it throws; the work is done in the files beside. */
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FILE_BYTES_MAX } from '@collective/base/limits';
import {
  Existing,
  type Attributes as WireAttributes,
  RenameMode as WireRenameMode,
  InodeType as WireType,
  XattrMode,
} from '@collective/protocol/gen/session';
import type {
  Attributes,
  CallOptions,
  DirectoryEntry,
  FileHandle,
  FileSystemTotals,
  Files,
  MutationOptions,
  OpenOptions,
  ReadOptions,
  RenameMode,
  SetAttributes,
  SmallFile,
  UsageTotals,
  VerifyReport,
  WalkEntry,
  WriteManyOptions,
  WriteManyOutcome,
  WriteOptions,
  WriteSource,
} from '../api.ts';
import { expectResult } from '../session/operation-kinds.ts';
import { readBorrowed, readRange } from '../transfer/download.ts';
import { attributesOf, typeOf } from './attributes.ts';
import { directoryPages } from './directory-pages.ts';
import { about, aboutEach, type FileContext, NEVER_ABORTED, settingsOf } from './file-context.ts';
import { OpenFile } from './file-handle.ts';
import { childPath, formatPath, parsePath, quote } from './path.ts';
import type { ResolvedEntry } from './path-resolver.ts';
import { wireChanges } from './set-attributes.ts';
import { removeEntry, walkTree } from './tree.ts';
import { verifyFile } from './verify.ts';
import { writeFile } from './write-file.ts';
import { writeMany } from './write-many.ts';

const READ_ALL_BYTES_MAX = 64 * 1024 * 1024;
const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
const LINK_MODE = 0o777;
const OPEN_TRIES_MAX = 10;

const RENAME_MODES: Readonly<Record<RenameMode, WireRenameMode>> = {
  replace: WireRenameMode.RENAME_REPLACE,
  'no-replace': WireRenameMode.RENAME_NOREPLACE,
  exchange: WireRenameMode.RENAME_EXCHANGE,
};

const XATTR_MODES = { any: XattrMode.XATTR_ANY, create: XattrMode.XATTR_CREATE, replace: XattrMode.XATTR_REPLACE };

type NewName = Pick<ResolvedEntry, 'parent' | 'name'>;

export class MemberFiles implements Files {
  readonly #context: FileContext;

  constructor(context: FileContext) {
    this.#context = context;
  }

  stat(path: string, options: CallOptions = {}): Promise<Attributes> {
    return about('Look up', path, async () => attributesOf(await this.#attributes(path, true, options)));
  }

  lstat(path: string, options: CallOptions = {}): Promise<Attributes> {
    return about('Look up', path, async () => attributesOf(await this.#attributes(path, isFollowed(path), options)));
  }

  async exists(path: string, options: CallOptions = {}): Promise<boolean> {
    try {
      await this.stat(path, options);
      return true;
    } catch (error) {
      if (error instanceof CollectiveError && (error.code === 'not_found' || error.code === 'not_directory'))
        return false;
      throw error;
    }
  }

  list(path: string, options: CallOptions & { attributes?: boolean } = {}): AsyncIterable<DirectoryEntry> {
    const context = this.#context;
    const resolve = () => this.#attributes(path, true, options);
    return aboutEach('List', path, async function* () {
      const { inode, type } = await resolve();
      if (type !== WireType.DIRECTORY) throw new CollectiveError('not_directory', `List ${path}`);
      const directory = formatPath(parsePath(path));
      const listing = { withAttributes: options.attributes ?? true, signal: options.signal };
      for await (const page of directoryPages(context.session, inode, listing)) {
        for (const entry of page) {
          const name = entry.name.toString();
          yield {
            name,
            path: childPath(directory, name),
            inode: entry.inode,
            type: typeOf(entry.type),
            ...(entry.attributes === undefined ? {} : { attributes: attributesOf(entry.attributes) }),
          };
        }
      }
    });
  }

  walk(path: string, options: CallOptions & { depthMax?: number } = {}): AsyncIterable<WalkEntry> {
    const context = this.#context;
    const resolve = () => this.#attributes(path, isFollowed(path), options);
    return aboutEach('Walk', path, async function* () {
      const names = parsePath(path);
      const start = { path: formatPath(names), name: names.at(-1) ?? '', attributes: await resolve() };
      yield* walkTree(context, start, {
        depthMax: options.depthMax ?? Number.POSITIVE_INFINITY,
        signal: options.signal,
      });
    });
  }

  open(path: string, options: OpenOptions = {}): Promise<FileHandle> {
    return about('Open', path, async () => {
      for (let tries = 1; ; tries++) {
        try {
          return await this.#open(path, options);
        } catch (error) {
          // The inode went between the look at its name and the opening.
          const gone = error instanceof CollectiveError && error.code === 'stale';
          if (!gone || tries >= OPEN_TRIES_MAX) throw error;
        }
      }
    });
  }

  read(path: string, options: ReadOptions = {}): AsyncIterable<Buffer> {
    const context = this.#context;
    const resolve = () => this.#file(path, options);
    return aboutEach('Read', path, async function* () {
      const offset = options.offset ?? 0;
      checkOffset('offset', offset);
      if (options.length !== undefined) checkOffset('length', options.length);
      const { inode, size } = await resolve();
      const end = Math.min(size, options.length === undefined ? FILE_BYTES_MAX : offset + options.length);
      const read = options.borrow ? readBorrowed : readRange;
      yield* read(context.download, { inode, offset, end }, options.signal ?? NEVER_ABORTED);
    });
  }

  readAll(path: string, options: ReadOptions & { bytesMax?: number } = {}): Promise<Buffer> {
    return about('Read', path, async () => {
      const bytesMax = options.bytesMax ?? READ_ALL_BYTES_MAX;
      const pieces: Buffer[] = [];
      let bytes = 0;
      for await (const piece of this.read(path, { ...options, borrow: false })) {
        bytes += piece.length;
        if (bytes > bytesMax)
          throw new CollectiveError('range', `Read ${path} at once: it has more than ${bytesMax} bytes`);
        pieces.push(piece);
      }
      return Buffer.concat(pieces);
    });
  }

  write(path: string, source: WriteSource, options: WriteOptions = {}): Promise<Attributes> {
    return about('Write', path, async () => attributesOf(await writeFile(this.#context, path, source, options)));
  }

  writeMany(
    files: AsyncIterable<SmallFile> | Iterable<SmallFile>,
    options: WriteManyOptions = {},
  ): AsyncIterable<WriteManyOutcome> {
    return writeMany(files, options, (file) => {
      if (file.content.length > BLOCK_BYTES) {
        const what = `Write ${file.path} among many: it has more than ${BLOCK_BYTES} bytes`;
        return Promise.reject(new CollectiveError('range', what));
      }
      const { mode, modified } = file;
      return this.write(file.path, file.content, { ...options, mode, modified });
    });
  }

  mkdir(path: string, options: MutationOptions & { recursive?: boolean; mode?: number } = {}): Promise<Attributes> {
    return about('Make directory', path, async () => {
      if (options.recursive) return attributesOf(await this.#makeDirectories(parsePath(path), options));
      if (parsePath(path).length === 0) throw new CollectiveError('exists', 'Make the root');
      const entry = await this.#context.paths.entry(path, { followLast: false, signal: options.signal });
      return attributesOf(await this.#makeDirectory(entry, options));
    });
  }

  remove(
    path: string,
    options: MutationOptions & { recursive?: boolean; force?: boolean; permanent?: boolean } = {},
  ): Promise<void> {
    return about('Remove', path, () => removeEntry(this.#context, path, options));
  }

  rename(from: string, to: string, options: MutationOptions & { mode?: RenameMode } = {}): Promise<void> {
    return about(`Rename ${quote(from)} to`, to, async () => {
      const how = { followLast: false, signal: options.signal };
      const [source, target] = await Promise.all([
        this.#context.paths.entry(from, how),
        this.#context.paths.entry(to, how),
      ]);
      if (source.existing === undefined)
        throw new CollectiveError('not_found', `Rename ${from}`, { details: { at: formatPath(source.names) } });
      const isItsOwnParent =
        target.names.length > source.names.length && source.names.every((name, i) => target.names[i] === name);
      if (isItsOwnParent) throw new CollectiveError('invalid_argument', `Move ${from} into itself`);
      await this.#context.session.call(
        {
          $case: 'rename',
          value: {
            parent: source.parent.inode,
            name: Buffer.from(source.name),
            newParent: target.parent.inode,
            newName: Buffer.from(target.name),
            mode: RENAME_MODES[options.mode ?? 'replace'],
            targetHeld: this.#context.open.hold(target.existing?.inode),
            targetInode: target.existing?.inode ?? 0,
          },
        },
        settingsOf(options),
      );
    });
  }

  link(existing: string, path: string, options: MutationOptions = {}): Promise<Attributes> {
    return about('Link', path, async () => {
      const inode = (await this.#attributes(existing, false, options)).inode;
      const entry = await this.#context.paths.entry(path, { followLast: false, signal: options.signal });
      const value = { inode, parent: entry.parent.inode, name: Buffer.from(entry.name) };
      const reply = await this.#context.session.call({ $case: 'link', value }, settingsOf(options));
      return attributesOf(expectResult(reply, 'attributes'));
    });
  }

  symlink(target: string, path: string, options: MutationOptions = {}): Promise<Attributes> {
    return about('Make symbolic link', path, async () => {
      if (target === '' || target.includes('\0'))
        throw new CollectiveError('invalid_name', 'Make a symbolic link: its target is empty or holds a NUL');
      const entry = await this.#context.paths.entry(path, { followLast: false, signal: options.signal });
      return attributesOf(await this.#makeNode(entry, WireType.SYMLINK, LINK_MODE, options, Buffer.from(target)));
    });
  }

  readlink(path: string, options: CallOptions = {}): Promise<string> {
    return about('Read symbolic link', path, async () => {
      const { inode, type } = await this.#attributes(path, false, options);
      if (type !== WireType.SYMLINK)
        throw new CollectiveError('invalid_argument', `Read ${path}: it is no symbolic link`);
      const reply = await this.#context.session.call(
        { $case: 'readLink', value: { inode } },
        { signal: options.signal },
      );
      return expectResult(reply, 'linkTarget').target.toString();
    });
  }

  setAttributes(
    path: string,
    changes: SetAttributes,
    options: MutationOptions & { followLinks?: boolean } = {},
  ): Promise<Attributes> {
    return about('Change the attributes of', path, async () => {
      const { inode } = await this.#attributes(path, options.followLinks ?? true, options);
      const value = wireChanges(inode, changes);
      const reply = await this.#context.session.call({ $case: 'setAttributes', value }, settingsOf(options));
      return attributesOf(expectResult(reply, 'attributes'));
    });
  }

  truncate(path: string, sizeBytes: number, options: MutationOptions = {}): Promise<Attributes> {
    return this.setAttributes(path, { sizeBytes }, options);
  }

  getXattr(path: string, name: string, options: CallOptions = {}): Promise<Buffer> {
    return about('Read an attribute of', path, async () => {
      const { inode } = await this.#attributes(path, true, options);
      const reply = await this.#context.session.call(
        { $case: 'getXattr', value: { inode, name } },
        { signal: options.signal },
      );
      return expectResult(reply, 'xattrValue').value;
    });
  }

  setXattr(
    path: string,
    name: string,
    value: Uint8Array,
    options: MutationOptions & { mode?: 'any' | 'create' | 'replace' } = {},
  ): Promise<void> {
    return about('Set an attribute of', path, async () => {
      const { inode } = await this.#attributes(path, true, options);
      const mode = XATTR_MODES[options.mode ?? 'any'];
      const request = { inode, name, value: Buffer.from(value), mode };
      await this.#context.session.call({ $case: 'setXattr', value: request }, settingsOf(options));
    });
  }

  listXattrs(path: string, options: CallOptions = {}): Promise<string[]> {
    return about('List the attributes of', path, async () => {
      const { inode } = await this.#attributes(path, true, options);
      const reply = await this.#context.session.call(
        { $case: 'listXattrs', value: { inode } },
        { signal: options.signal },
      );
      return expectResult(reply, 'xattrNames').names;
    });
  }

  removeXattr(path: string, name: string, options: MutationOptions = {}): Promise<void> {
    return about('Remove an attribute of', path, async () => {
      const { inode } = await this.#attributes(path, true, options);
      await this.#context.session.call({ $case: 'removeXattr', value: { inode, name } }, settingsOf(options));
    });
  }

  verify(
    path: string,
    options: CallOptions & { onProgress?: (progress: { readonly bytesRead: number }) => void } = {},
  ): Promise<VerifyReport> {
    return about('Verify', path, async () => {
      const attributes = await this.#attributes(path, true, options);
      if (attributes.type === WireType.DIRECTORY) throw new CollectiveError('is_directory', `Verify ${path}`);
      return await verifyFile(this.#context, path, attributes, options);
    });
  }

  usage(path: string, options: CallOptions = {}): Promise<UsageTotals> {
    return about('Sum up', path, async () => {
      const { inode, type, size, storedBytes } = await this.#attributes(path, true, options);
      if (type !== WireType.DIRECTORY) return { files: 1, directories: 0, bytes: size, storedBytes };
      const totals = { files: 0, directories: 0, bytes: 0, storedBytes: 0 };
      let resume = Buffer.alloc(0);
      do {
        const reply = await this.#context.session.call(
          { $case: 'usage', value: { inode, resume } },
          { signal: options.signal },
        );
        const step = expectResult(reply, 'usage');
        totals.files += step.files;
        totals.directories += step.directories;
        totals.bytes += step.bytes;
        totals.storedBytes += step.storedBytes;
        resume = Buffer.from(step.resume);
      } while (resume.length > 0);
      return totals;
    });
  }

  statFileSystem(path: string, options: CallOptions = {}): Promise<FileSystemTotals> {
    return about('Look at the file system of', path, async () => {
      const { inode } = await this.#attributes(path, true, options);
      const reply = await this.#context.session.call(
        { $case: 'statFileSystem', value: { inode } },
        { signal: options.signal },
      );
      return expectResult(reply, 'fileSystem');
    });
  }

  async #attributes(path: string, followLast: boolean, options: CallOptions): Promise<WireAttributes> {
    return (await this.#context.paths.resolve(path, { followLast, signal: options.signal })).attributes;
  }

  async #file(path: string, options: CallOptions): Promise<WireAttributes> {
    const attributes = await this.#attributes(path, true, options);
    if (attributes.type === WireType.DIRECTORY) throw new CollectiveError('is_directory', `Read ${path}`);
    if (attributes.type !== WireType.FILE) throw new CollectiveError('unsupported', `Read ${path}: it is no file`);
    return attributes;
  }

  async #open(path: string, options: OpenOptions): Promise<FileHandle> {
    const writable = options.access === 'write';
    const { existing, ...entry } = await this.#context.paths.entry(path, { followLast: true, signal: options.signal });
    const isNew = existing === undefined || (options.create === true && options.exclusive === true);
    if (isNew && !(options.create && writable)) throw new CollectiveError('not_found', `Open ${path}`);
    const attributes = isNew ? await this.#create(entry, options) : existing;
    if (attributes.type === WireType.DIRECTORY) throw new CollectiveError('is_directory', `Open ${path}`);
    if (attributes.type !== WireType.FILE) throw new CollectiveError('unsupported', `Open ${path}: it is no file`);
    const handle = new OpenFile(this.#context, path, attributes, writable);
    await handle.announce(options.signal);
    if (options.truncate && writable && !isNew) await handle.truncate(0, options);
    return handle;
  }

  async #create(entry: NewName, options: OpenOptions): Promise<WireAttributes> {
    const existing = options.exclusive ? Existing.FAIL : Existing.OPEN;
    return await this.#makeNode(entry, WireType.FILE, options.mode ?? FILE_MODE, options, undefined, existing);
  }

  async #makeDirectories(
    names: readonly string[],
    options: MutationOptions & { mode?: number },
  ): Promise<WireAttributes> {
    const path = formatPath(names);
    try {
      return await this.#directory(path, options);
    } catch (error) {
      if (!(error instanceof CollectiveError) || error.code !== 'not_found') throw error;
    }
    await this.#makeDirectories(names.slice(0, -1), options);
    const entry = await this.#context.paths.entry(path, { followLast: false, signal: options.signal });
    try {
      return await this.#makeDirectory(entry, options);
    } catch (error) {
      // Somebody else was faster, which is as good.
      if (error instanceof CollectiveError && error.code === 'exists') return await this.#directory(path, options);
      throw error;
    }
  }

  async #directory(path: string, options: CallOptions): Promise<WireAttributes> {
    const attributes = await this.#attributes(path, true, options);
    if (attributes.type !== WireType.DIRECTORY) throw new CollectiveError('exists', `Make directory ${path}`);
    return attributes;
  }

  async #makeDirectory(entry: NewName, options: MutationOptions & { mode?: number }): Promise<WireAttributes> {
    return await this.#makeNode(entry, WireType.DIRECTORY, options.mode ?? DIRECTORY_MODE, options);
  }

  async #makeNode(
    entry: NewName,
    type: WireType,
    mode: number,
    options: MutationOptions,
    linkTarget: Buffer = Buffer.alloc(0),
    existing: Existing = Existing.FAIL,
  ): Promise<WireAttributes> {
    const { parent, name } = entry;
    const node = {
      parent: parent.inode,
      name: Buffer.from(name),
      type,
      mode,
      umask: 0,
      rdev: 0,
      linkTarget,
      existing,
      targetHeld: false,
      targetInode: 0,
    };
    const reply = await this.#context.session.call(
      { $case: 'makeNode', value: { ...node, content: undefined } },
      settingsOf(options),
    );
    return expectResult(reply, 'attributes');
  }
}

/** POSIX: a '/' at the end of a path asks for what a symbolic link leads to. */
function isFollowed(path: string): boolean {
  return path.endsWith('/');
}

function checkOffset(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new CollectiveError('invalid_argument', `Use ${value} as ${name}: it must be a whole number from 0 on`);
}
