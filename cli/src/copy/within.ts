/** Copies within the member: through this machine, block by block, as any two readers and writers would. */

import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import { joinRemote } from '../remote-path.ts';
import { CopyRun } from './copy-run.ts';
import { makeRemoteFolder, storeLink } from './upload.ts';

/** A whole tree or an error: what a move between realms needs before it removes the source. */
export async function copyTreeWithin(
  files: Files,
  from: string,
  to: string,
  { replace, signal }: { readonly replace: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const errors: unknown[] = [];
  const options = { recursive: true, preserve: true, replace, continue: false, dereference: false };
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
  if (top.type === 'directory' && !options.recursive) {
    throw new CollectiveError('is_directory', `Copy ${from}: it is a directory; -r copies it`);
  }
  refuseCopyIntoItself(from, to);
  const folders: { path: string; mode: number; modified: typeof top.modified }[] = [];
  for await (const entry of files.walk(from, { signal })) {
    const below = entry.depth === 0 ? '' : entry.path.slice(from.endsWith('/') ? from.length : from.length + 1);
    const target = below === '' ? to : joinRemote(to, below);
    const attributes = entry.depth === 0 ? top : entry.attributes;
    const preserved = options.preserve ? { mode: attributes.mode, modified: attributes.modified } : {};
    switch (attributes.type) {
      case 'directory':
        await run.step(async () => {
          await makeRemoteFolder(run, target);
          folders.push({ path: target, mode: attributes.mode, modified: attributes.modified });
        });
        break;
      case 'file':
        await run.start(attributes.sizeBytes, async () => {
          let reported = 0;
          await files.write(target, files.read(entry.path, { signal }), {
            ...preserved,
            replace: options.replace,
            sizeHintBytes: attributes.sizeBytes,
            signal,
            onProgress: ({ storedBytes }) => {
              run.addBytes(storedBytes - reported);
              reported = storedBytes;
            },
          });
          run.addBytes(attributes.sizeBytes - reported);
        });
        break;
      case 'symlink':
        await run.step(async () => await storeLink(run, await files.readlink(entry.path, { signal }), target));
        break;
      default:
        await run.step(async () => {
          throw new CollectiveError(
            'unsupported',
            `Copy ${entry.path}: it is a ${attributes.type}, neither file, directory nor link`,
          );
        });
    }
  }
  await run.idle();
  if (!options.preserve) return;
  for (const { path, mode, modified } of folders.reverse()) {
    await run.step(async () => {
      await files.setAttributes(path, { mode, modified }, { signal });
    });
  }
}

function refuseCopyIntoItself(from: string, to: string): void {
  const source = from.endsWith('/') ? from : `${from}/`;
  if (`${to}/`.startsWith(source)) {
    throw new CollectiveError('invalid_argument', `Copy ${from} to ${to}: the target is, or lies in, the source`);
  }
}
