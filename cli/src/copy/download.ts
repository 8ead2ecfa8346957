/**
 * Files and trees of the member onto the local disk. A file is written beside its name and renamed when it is complete,
 * so nobody takes half a file for a whole one; what was fetched of an interrupted large file stays, and the next try goes
 * on behind it. The partial file's name holds inode and version of the source: another content never continues it.
 *
 * Below the target that was named nothing is written through a symbolic link, so that no tree can lead out of it.
 */
import { createHash } from 'node:crypto';
import {
  chmod,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  utimes,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { Attributes } from '@collective/client';
import { localError } from '../local-error.ts';
import { joinRemote } from '../remote-path.ts';
import { asideName } from './aside-name.ts';
import { type CopyRun, LARGE_FILE_BYTES } from './copy-run.ts';
import { FollowedLinks } from './followed-links.ts';
import { isSameTime, modifiedOf, secondsOf } from './local-time.ts';

interface FinishedFolder {
  readonly path: string;
  readonly attributes: Attributes;
}

export async function downloadTree(run: CopyRun, from: string, to: string): Promise<void> {
  const { files, options, signal } = run;
  const top =
    options.dereference || !options.recursive
      ? await files.stat(from, { signal })
      : await files.lstat(from, { signal });
  if (top.type !== 'directory') {
    await downloadEntry(run, from, to, top, { named: true });
    return await run.idle();
  }
  if (!options.recursive) throw new CollectiveError('is_directory', `Fetch ${from}: it is a directory; -r copies it`);
  const folders: FinishedFolder[] = [];
  const entered = new FollowedLinks().into(from, String(top.inode));
  await downloadFolder(run, from, to, folders, entered, true);
  await run.idle();
  if (!options.preserve) return;
  for (const { path, attributes } of folders.reverse()) {
    await run.step(async () => await setLocalAttributes(path, attributes));
  }
}

async function downloadFolder(
  run: CopyRun,
  from: string,
  to: string,
  folders: FinishedFolder[],
  entered: FollowedLinks,
  isTop: boolean,
): Promise<void> {
  const { files, options, signal } = run;
  /** A directory that could not be made: what is below it has no place. */
  let refused: string | undefined;
  // A walk follows a link at its beginning when a '/' says so.
  for await (const entry of files.walk(`${from}/`, { signal })) {
    if (refused !== undefined && entry.path.startsWith(refused)) continue;
    refused = undefined;
    const target = join(to, localName(from, entry.path));
    if (entry.type === 'directory') {
      const made = await run.step(async () => {
        await makeLocalFolder(target, { named: isTop && entry.depth === 0 });
        folders.push({ path: target, attributes: entry.attributes });
      });
      if (!made) refused = joinRemote(entry.path, '');
    } else if (entry.type === 'symlink' && options.dereference) {
      await run.step(async () => {
        const attributes = await files.stat(entry.path, { signal });
        if (attributes.type !== 'directory') return await downloadEntry(run, entry.path, target, attributes);
        const deeper = entered.into(entry.path, String(attributes.inode));
        await downloadFolder(run, entry.path, target, folders, deeper, false);
      });
    } else {
      await downloadEntry(run, entry.path, target, entry.attributes);
    }
  }
}

async function downloadEntry(
  run: CopyRun,
  from: string,
  to: string,
  attributes: Attributes,
  how: { readonly named?: boolean } = {},
): Promise<void> {
  if (attributes.type === 'file') {
    await run.start(attributes.sizeBytes, async () => {
      const named = how.named === true;
      await downloadFile(run, from, named ? await behindLinks(from, to) : to, attributes, named);
    });
    return;
  }
  await run.step(async () => {
    if (attributes.type !== 'symlink') {
      throw new CollectiveError(
        'unsupported',
        `Fetch ${from}: it is a ${attributes.type}, neither file, directory nor link`,
        { todo: 'It is left out; the rest is copied.' },
      );
    }
    await placeLink(run, await run.files.readlink(from, { signal: run.signal }), to);
  });
}

/** What was named is written through its links, as cp does: `/dev/stdout` is one. */
async function behindLinks(from: string, to: string): Promise<string> {
  const there = await lstat(to).catch(() => undefined);
  if (!there?.isSymbolicLink()) return to;
  const target = await stat(to).catch((cause: unknown) => {
    throw localError(`Fetch ${from}: ${to} is a symbolic link that leads nowhere`, cause);
  });
  // A pipe has no path of its own that could be written beside.
  return target.isFile() ? await realpath(to) : to;
}

async function downloadFile(
  run: CopyRun,
  from: string,
  to: string,
  attributes: Attributes,
  named: boolean,
): Promise<void> {
  const { options, signal } = run;
  const there = await lstat(to, { bigint: true }).catch(() => undefined);
  if (there !== undefined && !options.replace)
    throw new CollectiveError('exists', `Fetch ${from}: ${to} exists on this machine`);
  if (
    options.continue &&
    there?.isFile() &&
    Number(there.size) === attributes.sizeBytes &&
    isSameTime(modifiedOf(there), attributes.modified)
  ) {
    run.addBytes(attributes.sizeBytes);
    return;
  }
  if (there?.isDirectory())
    throw new CollectiveError('is_directory', `Fetch ${from}: ${to} is a directory on this machine`);
  // A pipe or device that was named is written into, also through a link; below -r a link gives way to the file.
  if (there !== undefined && !there.isFile() && (named || !there.isSymbolicLink())) {
    if (named) return await fetchInto(run, from, to, to, 0);
    throw new CollectiveError('unsupported', `Fetch ${from}: ${to} is neither file nor directory on this machine`);
  }

  const partial = join(dirname(to), partialName(basename(to), attributes));
  const fetched = await stat(partial).catch(() => undefined);
  const offset = Math.min(fetched?.size ?? 0, attributes.sizeBytes);
  run.addBytes(offset);
  try {
    await fetchInto(run, from, partial, to, offset);
  } catch (thrown) {
    // Little is fetched again as quickly as it is looked for.
    const kept = await stat(partial).catch(() => undefined);
    if (kept !== undefined && kept.size <= LARGE_FILE_BYTES) await rm(partial, { force: true });
    throw thrown;
  }
  signal.throwIfAborted();
  try {
    if (options.preserve) await setLocalAttributes(partial, attributes);
    else await chmod(partial, there?.isFile() ? Number(there.mode & 0o1777n) : 0o666 & ~process.umask());
    await rename(partial, to);
  } catch (cause) {
    throw localError(`Put ${to} in its place`, cause);
  }
}

/** `to` is what the person knows it by. */
async function fetchInto(run: CopyRun, from: string, path: string, to: string, offset: number): Promise<void> {
  const { files, signal } = run;
  const failed = (cause: unknown): never => {
    throw localError(`Write ${to}`, cause);
  };
  const target = await open(path, offset > 0 ? 'r+' : 'w', 0o600).catch(failed);
  try {
    const isFile = (await target.stat()).isFile();
    let at = offset;
    for await (const piece of files.read(from, { offset, borrow: true, signal })) {
      // What is zero in the member occupies nothing here either; pipes have no positions.
      if (!isFile || !isZero(piece)) await writeAll(target, piece, isFile ? at : null).catch(failed);
      at += piece.length;
      run.addBytes(piece.length);
    }
    if (isFile) await target.truncate(at).catch(failed);
  } finally {
    await target.close();
  }
}

async function writeAll(target: FileHandle, piece: Uint8Array, position: number | null): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    const { bytesWritten } = await target.write(
      piece,
      done,
      piece.length - done,
      position === null ? null : position + done,
    );
    done += bytesWritten;
  }
}

const ZEROS = Buffer.alloc(1024 * 1024);

function isZero(piece: Buffer): boolean {
  for (let at = 0; at < piece.length; at += ZEROS.length) {
    const part = piece.subarray(at, at + ZEROS.length);
    if (!part.equals(ZEROS.subarray(0, part.length))) return false;
  }
  return true;
}

/** A name beside the target, the same at each try for the same content. */
function partialName(name: string, { inode, version, sizeBytes }: Attributes): string {
  const identity = createHash('sha256')
    .update(`${name}\0${inode}\0${version}\0${sizeBytes}`)
    .digest('hex')
    .slice(0, 16);
  return `.${name.slice(0, 60)}.${identity}.partial`;
}

async function setLocalAttributes(path: string, attributes: Attributes): Promise<void> {
  const seconds = secondsOf(attributes.modified);
  // Set-id bits are not carried over: who they would name differs from machine to machine.
  await chmod(path, attributes.mode & 0o1777);
  await utimes(path, seconds, seconds);
}

async function makeLocalFolder(path: string, { named }: { named: boolean }): Promise<void> {
  try {
    await mkdir(path, { mode: 0o755 });
  } catch (cause) {
    const existing = await (named ? stat(path) : lstat(path)).catch(() => undefined);
    if (existing?.isDirectory()) return;
    if (!existing?.isSymbolicLink()) throw localError(`Make the directory ${path}`, cause);
    throw new CollectiveError(
      'not_directory',
      `Make the directory ${path}: it is a symbolic link on this machine, which is not followed`,
      { cause, todo: 'Remove the link, or copy what is below by itself.' },
    );
  }
}

async function placeLink(run: CopyRun, target: string, to: string): Promise<void> {
  try {
    await symlink(target, to);
  } catch (cause) {
    const same = (await readlink(to).catch(() => undefined)) === target;
    if (same) return;
    const there = await lstat(to).catch(() => undefined);
    if (!run.options.replace || there === undefined || there.isDirectory())
      throw localError(`Make the link ${to}`, cause);
    const aside = join(dirname(to), asideName(basename(to)));
    await symlink(target, aside);
    await rename(aside, to).catch(async (thrown: unknown) => {
      await rm(aside, { force: true });
      throw localError(`Make the link ${to}`, thrown);
    });
  }
}

/** The path below the starting point. A name that would leave it is refused: what a server says is not believed blindly. */
function localName(from: string, path: string): string {
  const base = from.replace(/\/*$/, '/');
  if (path === base || `${path}/` === base) return '';
  const below = path.startsWith(base) ? path.slice(base.length) : '';
  if (below === '' || below.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    throw new CollectiveError('invalid_name', `Fetch ${path}: it does not lie below ${from}`);
  }
  return below;
}
