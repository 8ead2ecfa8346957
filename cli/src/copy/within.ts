/** Copies within the member: through this machine, block by block, as any two readers and writers would. */

import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { Attributes, Files, WriteOptions } from '@collective/client';
import { joinRemote } from '../remote-path.ts';
import { CopyRun } from './copy-run.ts';
import { FollowedLinks } from './followed-links.ts';
import { isThere, makeRemoteFolder, storeLink } from './upload.ts';

interface FinishedFolder {
  readonly from: string;
  readonly to: string;
  readonly attributes: Attributes;
}

/** A whole tree or an error: what a move between realms needs before it removes the source. */
export async function copyTreeWithin(
  files: Files,
  from: string,
  to: string,
  { replace, signal }: { readonly replace: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const errors: unknown[] = [];
  const options = { recursive: true, preserve: true, replace, continue: false, dereference: false, everything: true };
  const run = new CopyRun(files, options, signal, {
    failed: (thrown) => errors.push(thrown),
    progressed: () => undefined,
  });
  await copyWithin(run, from, to);
  if (errors.length > 0) {
    throw new CollectiveError(
      'internal',
      `Copy ${from} to ${to}: ${errors.length} of its parts failed; nothing was removed`,
      {
        cause: errors[0],
      },
    );
  }
}

export async function copyWithin(run: CopyRun, from: string, to: string): Promise<void> {
  const { files, options, signal } = run;
  const top =
    options.dereference || !options.recursive
      ? await files.stat(from, { signal })
      : await files.lstat(from, { signal });
  refuseCopyIntoItself(from, to);
  if (top.type !== 'directory') {
    await copyEntry(run, from, to, top);
    return await run.idle();
  }
  if (!options.recursive) throw new CollectiveError('is_directory', `Copy ${from}: it is a directory; -r copies it`);
  const folders: FinishedFolder[] = [];
  const entered = new FollowedLinks().into(from, String(top.inode));
  await copyFolder(run, from, to, folders, entered);
  await run.idle();
  if (!options.preserve) return;
  for (const { from: source, to: target, attributes } of folders.reverse()) {
    await run.step(async () => {
      if (options.everything) await carryOver(run, source, target, attributes);
      const { mode, modified } = attributes;
      await files.setAttributes(target, { mode, modified }, { signal });
    });
  }
}

async function copyFolder(
  run: CopyRun,
  from: string,
  to: string,
  folders: FinishedFolder[],
  entered: FollowedLinks,
): Promise<void> {
  const { files, options, signal } = run;
  let topTarget: number | undefined;
  /** A directory that could not be made: what is below it has no place. */
  let refused: string | undefined;
  for await (const entry of files.walk(`${from}/`, { signal })) {
    if (refused !== undefined && entry.path.startsWith(refused)) continue;
    refused = undefined;
    const { attributes, depth } = entry;
    const target =
      depth === 0 ? to : joinRemote(to, entry.path.slice(from.endsWith('/') ? from.length : from.length + 1));
    if (entry.type === 'directory') {
      // The target may lie below the source by another path, through a link.
      if (entry.inode === topTarget) {
        throw new CollectiveError('invalid_argument', `Copy ${from} to ${to}: the target lies in the source`);
      }
      const made = await run.step(async () => {
        await makeRemoteFolder(run, target);
        if (depth === 0) topTarget = (await files.stat(target, { signal })).inode;
        folders.push({ from: entry.path, to: target, attributes });
      });
      if (!made) refused = joinRemote(entry.path, '');
    } else if (entry.type === 'symlink' && options.dereference) {
      await run.step(async () => {
        const behind = await files.stat(entry.path, { signal });
        if (behind.type !== 'directory') return await copyEntry(run, entry.path, target, behind);
        await copyFolder(run, entry.path, target, folders, entered.into(entry.path, String(behind.inode)));
      });
    } else {
      await copyEntry(run, entry.path, target, attributes);
    }
  }
}

async function copyEntry(run: CopyRun, from: string, to: string, attributes: Attributes): Promise<void> {
  const { files, signal } = run;
  switch (attributes.type) {
    case 'file':
      await run.start(attributes.sizeBytes, () => copyFile(run, from, to, attributes));
      break;
    case 'symlink':
      await run.step(async () => {
        await storeLink(run, await files.readlink(from, { signal }), to);
        if (run.options.everything) await keepOwner(run, to, attributes);
      });
      break;
    default:
      await run.step(async () => {
        throw new CollectiveError(
          'unsupported',
          `Copy ${from}: it is a ${attributes.type}, neither file, directory nor link`,
          { todo: 'It is left out; the rest is copied.' },
        );
      });
  }
}

async function copyFile(run: CopyRun, from: string, to: string, attributes: Attributes): Promise<void> {
  const { files, options, signal } = run;
  const { sizeBytes, mode, modified } = attributes;
  if (options.continue && (await isThere(run, to, sizeBytes, modified))) {
    run.addBytes(sizeBytes);
    return;
  }
  let reported = 0;
  const how: WriteOptions = {
    ...(options.preserve ? { mode, modified } : {}),
    replace: options.replace,
    sizeHintBytes: sizeBytes,
    signal,
    onProgress: ({ storedBytes }) => {
      run.addBytes(storedBytes - reported);
      reported = storedBytes;
    },
  };
  const isSmall = sizeBytes <= BLOCK_BYTES;
  await files.write(to, isSmall ? await files.readAll(from, { signal }) : files.read(from, { signal }), how);
  run.addBytes(sizeBytes - reported);
  if (options.everything) await carryOver(run, from, to, attributes);
}

/** What a copy leaves behind and a move must not. */
async function carryOver(run: CopyRun, from: string, to: string, attributes: Attributes): Promise<void> {
  const { files, signal } = run;
  for (const name of await files.listXattrs(from, { signal })) {
    await files.setXattr(to, name, await files.getXattr(from, name, { signal }), { signal });
  }
  await keepOwner(run, to, attributes);
}

async function keepOwner({ files, signal }: CopyRun, to: string, { uid, gid, mode, type }: Attributes): Promise<void> {
  const made = await files.lstat(to, { signal });
  if (made.uid === uid && made.gid === gid) return;
  const changes = type === 'symlink' ? { uid, gid } : { uid, gid, mode, modified: made.modified };
  try {
    await files.setAttributes(to, changes, { signal, followLinks: false });
  } catch (thrown) {
    // Who may not give files away has them under the own uid, as with every other file that is made.
    const mayNot = thrown instanceof CollectiveError && ['not_permitted', 'permission_denied'].includes(thrown.code);
    if (!mayNot) throw thrown;
  }
}

function refuseCopyIntoItself(from: string, to: string): void {
  const source = from.endsWith('/') ? from : `${from}/`;
  if (`${to}/`.startsWith(source)) {
    const same = `${to}/` === source;
    const why = same ? 'they are the same' : 'the target lies in the source';
    throw new CollectiveError('invalid_argument', `Copy ${from} to ${to}: ${why}`);
  }
}
