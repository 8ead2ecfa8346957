/**
 * Files and trees of the member onto the local disk. A file is written beside its name and renamed when it is complete,
 * so nobody takes half a file for a whole one; what was fetched of an interrupted large file stays, and the next try goes
 * on behind it. The partial file's name holds inode and version of the source: another content never continues it.
 */
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, open, readlink, rename, rm, stat, symlink, utimes } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { Attributes } from '@collective/client';
import { type CopyRun, LARGE_FILE_BYTES } from './copy-run.ts';
import { isSameTime, modifiedOf, secondsOf } from './local-time.ts';
import { localError } from './upload.ts';

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
    await downloadEntry(run, from, to, top);
    return await run.idle();
  }
  if (!options.recursive) throw new CollectiveError('is_directory', `Fetch ${from}: it is a directory; -r copies it`);
  const folders: FinishedFolder[] = [];
  for await (const entry of files.walk(from, { signal })) {
    const target = join(to, localName(from, entry.path));
    if (entry.type === 'directory') {
      await run.step(async () => {
        await makeLocalFolder(target);
        folders.push({ path: target, attributes: entry.attributes });
      });
    } else {
      await downloadEntry(run, entry.path, target, entry.attributes);
    }
  }
  await run.idle();
  if (!options.preserve) return;
  for (const { path, attributes } of folders.reverse()) {
    await run.step(async () => await setLocalAttributes(path, attributes));
  }
}

async function downloadEntry(run: CopyRun, from: string, to: string, attributes: Attributes): Promise<void> {
  if (attributes.type === 'file') {
    await run.start(attributes.sizeBytes, () => downloadFile(run, from, to, attributes));
    return;
  }
  await run.step(async () => {
    if (attributes.type !== 'symlink') {
      throw new CollectiveError(
        'unsupported',
        `Fetch ${from}: it is a ${attributes.type}, neither file, directory nor link`,
      );
    }
    await placeLink(run, await run.files.readlink(from, { signal: run.signal }), to);
  });
}

async function downloadFile(run: CopyRun, from: string, to: string, attributes: Attributes): Promise<void> {
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
  // A pipe or device (/dev/stdout) cannot be replaced: it is written into.
  if (there !== undefined && !there.isFile() && !there.isSymbolicLink()) return await fetchInto(run, from, to, 0);

  const partial = join(dirname(to), partialName(basename(to), attributes));
  const fetched = await stat(partial).catch(() => undefined);
  const offset = Math.min(fetched?.size ?? 0, attributes.sizeBytes);
  run.addBytes(offset);
  try {
    await fetchInto(run, from, partial, offset);
  } catch (thrown) {
    // Little is fetched again as quickly as it is looked for.
    const kept = await stat(partial).catch(() => undefined);
    if (kept === undefined || kept.size <= LARGE_FILE_BYTES) await rm(partial, { force: true });
    throw thrown;
  }
  signal.throwIfAborted();
  try {
    if (options.preserve) await setLocalAttributes(partial, attributes);
    await rename(partial, to);
  } catch (cause) {
    throw localError(`Put ${to} in its place`, cause);
  }
}

async function fetchInto(run: CopyRun, from: string, to: string, offset: number): Promise<void> {
  const { files, signal } = run;
  let at = offset;
  const target = await open(to, offset > 0 ? 'r+' : 'w', 0o600).catch((cause: unknown) => {
    throw localError(`Write ${to}`, cause);
  });
  try {
    for await (const piece of files.read(from, { offset, borrow: true, signal })) {
      // Only a continued file is written by position; pipes have none.
      for (let done = 0; done < piece.length; ) {
        const { bytesWritten } = await target
          .write(piece, done, piece.length - done, offset > 0 ? at + done : null)
          .catch((cause: unknown) => {
            throw localError(`Write ${to}`, cause);
          });
        done += bytesWritten;
      }
      at += piece.length;
      run.addBytes(piece.length);
    }
  } finally {
    await target.close();
  }
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

async function makeLocalFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o755 });
  } catch (cause) {
    const existing = await stat(path).catch(() => undefined);
    if (!existing?.isDirectory()) throw localError(`Make the directory ${path}`, cause);
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
    const aside = join(dirname(to), `.${basename(to).slice(0, 200)}.link`);
    await rm(aside, { force: true });
    await symlink(target, aside);
    await rename(aside, to);
  }
}

/** The path below the starting point. A name that would leave it is refused: what a server says is not believed blindly. */
function localName(from: string, path: string): string {
  const base = from.endsWith('/') ? from : `${from}/`;
  const below = path.startsWith(base) ? path.slice(base.length) : '';
  if (
    path !== from &&
    path !== base &&
    (below === '' || below.split('/').some((part) => part === '' || part === '.' || part === '..'))
  ) {
    throw new CollectiveError('invalid_name', `Fetch ${path}: it does not lie below ${from}`);
  }
  return below;
}
