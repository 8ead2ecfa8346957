/**
 * The folder with a peer's `tls.crt`, `tls.key` and `trust.pem` (T4). The three are read through one `..data` target if
 * there is one (Kubernetes volumes, and our own writes), so that a new key is never paired with an old certificate; in a
 * folder of plain files a pair that does not fit is left for the next look. The last good set stays in use until a better
 * one is there. Changes are found by looking every `lookEveryMs` and, sooner, by the file system's own notice.
 *
 * This file is an edge: it is the only one that reads identity files.
 */
import { type FSWatcher, watch } from 'node:fs';
import { lstat, mkdir, readdir, readFile, realpath, rename, rm, stat, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { SecureContextOptions, Server } from 'node:tls';
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type Log, silentLog } from '@collective/base/log';
import { syncFolder, writeSynced } from './synced-files.ts';
import { isSameSet, parseTrustSet, type TrustPems, type TrustSet } from './trust-set.ts';

/** What parts need that use an identity; `TrustFiles` over a folder, `MemoryTrust` over what is held in memory. */
export interface Trust {
  readonly current: TrustSet;
  /** Called after each change; the result ends the subscription. */
  onChange(listener: (set: TrustSet) => void): () => void;
}

export interface TrustFilesOptions {
  readonly clock: Clock;
  readonly log?: Log;
  readonly lookEveryMs?: number;
}

const LOOK_EVERY_MS = 10_000;
/** File systems report a swap as several events; one look after the last is enough. */
const SETTLE_MS = 50;
/** A reader that finds its target swept away follows the new one, so often at most. */
const READ_ATTEMPTS_MAX = 3;
/** Another process needs far less between making a set and linking it. */
const UNLINKED_SETS_KEPT_MS = 10 * 60_000;
const CERTIFICATE = 'tls.crt';
const KEY = 'tls.key';
const BUNDLE = 'trust.pem';
const DATA = '..data';

export class TrustFiles implements Trust, Disposable {
  readonly folder: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #lookEveryMs: number;
  readonly #listeners = new Set<(set: TrustSet) => void>();
  #current: TrustSet;
  #timer: Timer | undefined;
  #watcher: FSWatcher | undefined;
  #looking: Promise<boolean> | undefined;
  #closed = false;

  /** Throws `not_found` when a file is missing, `unauthenticated` when the set does not fit together. */
  static async load(folder: string, options: TrustFilesOptions): Promise<TrustFiles> {
    const set = parseTrustSet(await readTrustPems(folder), folder);
    const files = new TrustFiles(folder, set, options);
    await files.#warnOfOpenKey();
    return files;
  }

  private constructor(
    folder: string,
    set: TrustSet,
    { clock, log = silentLog, lookEveryMs = LOOK_EVERY_MS }: TrustFilesOptions,
  ) {
    this.folder = folder;
    this.#current = set;
    this.#clock = clock;
    this.#log = log;
    this.#lookEveryMs = lookEveryMs;
  }

  get current(): TrustSet {
    return this.#current;
  }

  onChange(listener: (set: TrustSet) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Looks for changes from now on; neither timer nor watch keeps the process alive. */
  watch(): this {
    if (this.#timer !== undefined || this.#closed) return this;
    try {
      this.#watcher = watch(this.folder, { persistent: false }, () => this.#lookAfter(SETTLE_MS));
      this.#watcher.on('error', (cause) => this.#log.warn({ folder: this.folder, err: cause }, 'identity watch lost'));
    } catch (cause) {
      // Some file systems have no notices; looking now and then is enough.
      this.#log.warn({ folder: this.folder, err: cause }, 'identity watch refused');
    }
    this.#lookAfter(this.#lookEveryMs);
    return this;
  }

  /** Takes a changed set into use; true if there was one. Never throws: a bad set leaves the last good one in use. */
  async look(): Promise<boolean> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  /** Keeps the server's certificate and roots up to date; connections that stand stay as they are. */
  attach(server: Pick<Server, 'setSecureContext'>): () => void {
    server.setSecureContext(secureContextOptions(this.#current));
    return this.onChange((set) => server.setSecureContext(secureContextOptions(set)));
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#watcher?.close();
    this.#listeners.clear();
  }

  async #look(): Promise<boolean> {
    try {
      const pems = await readTrustPems(this.folder);
      if (isSameSet(pems, this.#current)) return false;
      const set = parseTrustSet(pems, this.folder);
      if (this.#closed) return false;
      if (set.id.uri !== this.#current.id.uri) {
        throw new CollectiveError(
          'wrong_member',
          `Read ${this.folder}: the identity changed from ${this.#current.id.uri} to ${set.id.uri}`,
        );
      }
      this.#current = set;
    } catch (thrown) {
      this.#log.warn({ folder: this.folder, err: thrown }, 'identity not reloaded');
      return false;
    }
    this.#log.info(
      { folder: this.folder, notAfter: this.#current.leaf.validTo, roots: this.#current.roots.length },
      'identity reloaded',
    );
    await this.#warnOfOpenKey();
    for (const listener of this.#listeners) listener(this.#current);
    return true;
  }

  #lookAfter(delayMs: number): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = this.#clock.setTimer(delayMs, () => void this.look().then(() => this.#lookAfter(this.#lookEveryMs)), {
      background: true,
    });
  }

  async #warnOfOpenKey(): Promise<void> {
    try {
      const { mode, uid } = await stat(join(this.folder, KEY));
      // kubelet gives keys to the group of the pod (0440, owned by root): who is not the owner cannot read them otherwise.
      const open = uid === process.getuid?.() ? 0o077 : 0o007;
      if ((mode & open) !== 0)
        this.#log.warn(
          { file: join(this.folder, KEY), mode: (mode & 0o777).toString(8) },
          'private key readable by others',
        );
    } catch (cause) {
      this.#log.warn({ folder: this.folder, err: cause }, 'private key not looked at');
    }
  }
}

/** For `tls.connect`, `tls.createServer` and `setSecureContext`. All ends are ours: nothing older than TLS 1.3. */
export function secureContextOptions(set: TrustSet): SecureContextOptions {
  return {
    cert: set.certificatePem,
    key: set.keyPem,
    ca: set.roots.map((root) => root.toString()),
    minVersion: 'TLSv1.3',
  };
}

/** Reads the three files from the same place. Throws `not_found` naming what is missing. */
export async function readTrustPems(folder: string): Promise<TrustPems> {
  for (let attempt = 1; ; attempt++) {
    const from = await resolveData(folder);
    try {
      const read = (name: string): Promise<string> => readFile(join(from, name), 'utf8');
      const [certificatePem, keyPem, bundlePem] = await Promise.all([read(CERTIFICATE), read(KEY), read(BUNDLE)]);
      return { certificatePem, keyPem, bundlePem };
    } catch (cause) {
      const swapped = from !== (await resolveData(folder));
      if (swapped && attempt < READ_ATTEMPTS_MAX) continue;
      throw new CollectiveError('not_found', `Read ${CERTIFICATE}, ${KEY} and ${BUNDLE} in ${folder}`, { cause });
    }
  }
}

/**
 * Writes the set so that no reader, and no crash, ever sees a part of it: a folder of its own, synced, then one rename of
 * `..data`. The three names themselves are links through `..data`, as in a Kubernetes volume.
 */
export async function writeTrustFiles(folder: string, pems: TrustPems): Promise<void> {
  parseTrustSet(pems, folder);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const fresh = await makeFreshFolder(folder);
    await writeSynced(join(folder, fresh, CERTIFICATE), pems.certificatePem, 0o644);
    await writeSynced(join(folder, fresh, KEY), pems.keyPem, 0o600);
    await writeSynced(join(folder, fresh, BUNDLE), pems.bundlePem, 0o644);
    await syncFolder(join(folder, fresh));
    const replaced = basename(await realpath(join(folder, DATA)).catch(() => ''));
    await replaceLink(folder, DATA, fresh, fresh);
    for (const name of [CERTIFICATE, KEY, BUNDLE]) await replaceLink(folder, name, join(DATA, name), fresh);
    await syncFolder(folder);
    await removeEarlierSets(folder, fresh, replaced);
  } catch (thrown) {
    throw toCollectiveError(thrown, `Write the identity files in ${folder}`, 'disk_failed');
  }
}

async function resolveData(folder: string): Promise<string> {
  try {
    return await realpath(join(folder, DATA));
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return folder;
    throw new CollectiveError('not_found', `Follow ${DATA} in ${folder}`, { cause: thrown });
  }
}

async function makeFreshFolder(folder: string): Promise<string> {
  for (;;) {
    const numbers = (await readdir(folder)).map((name) => Number(/^\.\.set-(\d+)$/.exec(name)?.[1] ?? 0));
    const fresh = `..set-${Math.max(0, ...numbers) + 1}`;
    try {
      await mkdir(join(folder, fresh), { mode: 0o700 });
      return fresh;
    } catch (thrown) {
      // Another process was faster: its number is taken, the next is free.
      if ((thrown as NodeJS.ErrnoException).code !== 'EEXIST') throw thrown;
    }
  }
}

async function replaceLink(folder: string, name: string, target: string, mark: string): Promise<void> {
  const aside = join(folder, `..new-${mark.replaceAll('.', '')}-${name}`);
  await rm(aside, { force: true });
  await symlink(target, aside);
  await rename(aside, join(folder, name));
}

/**
 * Several processes of one person may write at once: what another has just made may be the one that is linked next. So what
 * goes is the set that this one took the place of, and what is clearly older, by the times of one disk.
 */
async function removeEarlierSets(folder: string, fresh: string, replaced: string): Promise<void> {
  const linked = basename(await realpath(join(folder, DATA)));
  const { mtimeMs: freshMs } = await lstat(join(folder, fresh));
  for (const name of await readdir(folder)) {
    if (!/^\.\.(set-\d+$|new-)/.test(name) || name === fresh || name === linked) continue;
    const path = join(folder, name);
    const there = await lstat(path).catch(() => undefined);
    const isInUse = name !== replaced && there !== undefined && freshMs - there.mtimeMs < UNLINKED_SETS_KEPT_MS;
    if (there === undefined || isInUse) continue;
    await rm(path, { recursive: true, force: true });
  }
}
