/** Small files that must be there after a power loss and, when secret, be nobody else's. An edge: identity folders only. */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Throws if the file exists. The mode holds from the first byte. */
export async function writeSynced(path: string, text: string, mode: 0o600 | 0o644): Promise<void> {
  const file = await open(path, 'wx', mode);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes new and renamed names in the folder stable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** In place of an older one, never half, and readable by nobody else. */
export async function replaceSynced(path: string, text: string): Promise<void> {
  const aside = `${path}.new`;
  await rm(aside, { force: true });
  await writeSynced(aside, text, 0o600);
  await rename(aside, path);
  await syncFolder(dirname(path));
}
