/**
 * Two small files in a coordinator's data folder by which somebody who may write there asks a coordinator that runs for a
 * one-time token: `readmit`, the wish, which holds a user's name and no secret, and `readmission`, the answer, which holds the
 * token and is readable by the coordinator's user alone. Whoever reads the answer takes it away.
 */
import { chmod, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '@collective/base/disk/file-error';
import { readIfThere } from '@collective/base/disk/read-if-there';
import { CollectiveError } from '@collective/base/errors';
import { replaceSynced } from '@collective/protocol/tls/synced-files';

const WISH = 'readmit';
const ANSWER = 'readmission';

export type ReadmissionAnswer =
  | { readonly user: string; readonly token: string; readonly refusal?: undefined }
  | { readonly user: string; readonly refusal: string };

/** Also for a coordinator of another user: root asks it so. */
export async function layWish(folder: string, user: string): Promise<void> {
  const file = join(folder, WISH);
  const aside = `${file}.new`;
  try {
    await rm(join(folder, ANSWER), { force: true });
    await writeFile(aside, user, { flush: true });
    // Whatever the mask of who asks.
    await chmod(aside, 0o644);
    await rename(aside, file);
  } catch (thrown) {
    throw fileError(`Write ${file}`, thrown);
  }
}

/** The name that is wished for; undefined: nobody asks. */
export function readWish(folder: string): Promise<string | undefined> {
  return readIfThere(join(folder, WISH));
}

export async function removeWish(folder: string): Promise<void> {
  await rm(join(folder, WISH), { force: true });
}

export async function layAnswer(folder: string, answer: ReadmissionAnswer): Promise<void> {
  await replaceSynced(join(folder, ANSWER), JSON.stringify(answer));
}

export async function readAnswer(folder: string): Promise<ReadmissionAnswer | undefined> {
  const file = join(folder, ANSWER);
  const text = await readIfThere(file);
  if (text === undefined) return undefined;
  try {
    const { user, token, refusal } = JSON.parse(text) as Partial<Record<string, unknown>>;
    if (typeof user === 'string' && typeof refusal === 'string') return { user, refusal };
    if (typeof user === 'string' && typeof token === 'string') return { user, token };
  } catch (thrown) {
    throw new CollectiveError('store_damaged', `Read ${file}: it is not what a coordinator writes`, { cause: thrown });
  }
  throw new CollectiveError('store_damaged', `Read ${file}: it is not what a coordinator writes`);
}

export async function removeAnswer(folder: string): Promise<void> {
  await rm(join(folder, ANSWER), { force: true });
}
