/**
 * Contexts on disk. Every change is read, changed and written under a lock file, and the file is replaced as a whole
 * (0600), so that two commands at once lose nothing and a crash leaves the old or the new text.
 */
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CollectiveError } from '@collective/base/errors';
import {
  type ContextConfig,
  type ContextEntry,
  type ContextVia,
  EMPTY_CONFIG,
  formatContextConfig,
  type MemberEntry,
  parseContextConfig,
  type UserEntry,
} from './context-config.ts';
import { type ContextLocation, contextLocation } from './context-location.ts';

/** A writer holds the lock for milliseconds; one this old died. */
const LOCK_STALE_AFTER_MS = 10_000;
const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 20;

const CONTEXT_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$/;

/** A context with what it points at: all that `connect` needs. */
export interface ResolvedContext {
  readonly name: string;
  readonly current: boolean;
  readonly coordinator: string;
  readonly trustDomain: string;
  readonly credentials: string;
  readonly listener?: string;
  /** Set: the addresses mean something only where this leads to. */
  readonly via?: ContextVia;
}

export interface ContextSettings {
  /** Named without `via`: it is dialled directly from now on. */
  readonly coordinator?: string;
  readonly trustDomain?: string;
  /** Default of a new context: a folder of its own beside the config file. */
  readonly credentials?: string;
  readonly listener?: string;
  readonly via?: ContextVia;
}

export class ContextStore {
  readonly location: ContextLocation;
  readonly #lockWaitMs: number;

  constructor(location: ContextLocation = contextLocation(), options: { lockWaitMs?: number } = {}) {
    this.location = location;
    this.#lockWaitMs = options.lockWaitMs ?? LOCK_WAIT_MS;
  }

  async list(): Promise<ResolvedContext[]> {
    const config = await this.#read();
    return config.contexts.map((entry) => resolveEntry(config, entry, this.location.file));
  }

  async currentName(): Promise<string | undefined> {
    return (await this.#read()).currentContext;
  }

  /** The named context, or the current one. */
  async get(name?: string): Promise<ResolvedContext> {
    const config = await this.#read();
    const wanted = name ?? config.currentContext;
    if (wanted === undefined)
      throw new CollectiveError(
        'not_found',
        `Use the current context: none is set in ${this.location.file}. 'collective init' or 'collective up' makes one`,
      );
    return resolveEntry(config, entryOf(config, wanted, this.location.file), this.location.file);
  }

  /** Where the certificates of a context lie that says nothing else. */
  credentialsOf(name: string): string {
    return join(this.location.credentialsFolder, checkName(name));
  }

  /** Makes a context or changes the given fields of one. A first context becomes the current one. */
  async set(name: string, settings: ContextSettings, options: { use?: boolean } = {}): Promise<ResolvedContext> {
    checkName(name);
    const config = await this.#update((before) => {
      const entry = before.contexts.find((one) => one.name === name);
      const member = before.members.find((one) => one.name === (entry?.member ?? name));
      const user = before.users.find((one) => one.name === (entry?.user ?? name));
      const coordinator = settings.coordinator ?? member?.coordinator;
      const trustDomain = settings.trustDomain ?? member?.trustDomain;
      if (coordinator === undefined || trustDomain === undefined)
        throw new CollectiveError(
          'invalid_argument',
          `Make context '${name}': it needs ${coordinator === undefined ? 'a coordinator' : 'a trust domain'}`,
        );
      const via = settings.via ?? (settings.coordinator === undefined ? member?.via : undefined);
      const credentials = resolve(settings.credentials ?? user?.credentials ?? this.credentialsOf(name));
      const next: ContextEntry = {
        name,
        member: entry?.member ?? name,
        user: entry?.user ?? name,
        listener: settings.listener ?? entry?.listener,
      };
      return {
        currentContext: options.use ? name : (before.currentContext ?? name),
        members: withEntry<MemberEntry>(before.members, { name: next.member, coordinator, trustDomain, via }),
        users: withEntry<UserEntry>(before.users, { name: next.user, credentials }),
        contexts: withEntry(before.contexts, next),
      };
    });
    return resolveEntry(config, entryOf(config, name, this.location.file), this.location.file);
  }

  async use(name: string): Promise<void> {
    await this.#update((before) => {
      entryOf(before, name, this.location.file);
      return { ...before, currentContext: name };
    });
  }

  async rename(from: string, to: string): Promise<void> {
    checkName(to);
    await this.#update((before) => {
      const entry = entryOf(before, from, this.location.file);
      if (from !== to && before.contexts.some((one) => one.name === to))
        throw new CollectiveError('exists', `Rename context '${from}': there is one called '${to}' already`);
      return {
        ...before,
        currentContext: before.currentContext === from ? to : before.currentContext,
        contexts: before.contexts.map((one) => (one === entry ? { ...one, name: to } : one)),
      };
    });
  }

  /** Removes the context, what nothing else names, and its certificates if they lie in our own folder. */
  async delete(name: string): Promise<void> {
    let orphan: string | undefined;
    await this.#update((before) => {
      const entry = entryOf(before, name, this.location.file);
      const contexts = before.contexts.filter((one) => one !== entry);
      const users = before.users.filter(
        (user) => user.name !== entry.user || contexts.some((one) => one.user === user.name),
      );
      const folder = before.users.find((user) => user.name === entry.user)?.credentials;
      if (folder !== undefined && !users.some((user) => user.credentials === folder)) orphan = folder;
      return {
        currentContext: before.currentContext === name ? undefined : before.currentContext,
        members: before.members.filter(
          (member) => member.name !== entry.member || contexts.some((one) => one.member === member.name),
        ),
        users,
        contexts,
      };
    });
    if (orphan !== undefined && dirname(orphan) === resolve(this.location.credentialsFolder))
      await rm(orphan, { recursive: true, force: true });
  }

  async #read(): Promise<ContextConfig> {
    try {
      return parseContextConfig(await readFile(this.location.file, 'utf8'), this.location.file);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return EMPTY_CONFIG;
      if (error instanceof CollectiveError) throw error;
      throw new CollectiveError('config_invalid', `Read ${this.location.file}`, { cause: error });
    }
  }

  async #update(change: (before: ContextConfig) => ContextConfig): Promise<ContextConfig> {
    const { file } = this.location;
    try {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      await using _lock = await takeLock(`${file}.lock`, this.#lockWaitMs);
      const after = change(await this.#read());
      await replaceFile(file, formatContextConfig(after));
      return after;
    } catch (error) {
      if (error instanceof CollectiveError) throw error;
      throw new CollectiveError('config_invalid', `Write ${file}`, { cause: error });
    }
  }
}

function entryOf(config: ContextConfig, name: string, file: string): ContextEntry {
  const entry = config.contexts.find((one) => one.name === name);
  if (entry !== undefined) return entry;
  const known = config.contexts.map((one) => one.name).join(', ') || 'none';
  throw new CollectiveError('not_found', `Use context '${name}': ${file} has no such context (it has: ${known})`);
}

function resolveEntry(config: ContextConfig, entry: ContextEntry, file: string): ResolvedContext {
  const member = config.members.find((one) => one.name === entry.member);
  const user = config.users.find((one) => one.name === entry.user);
  if (member === undefined || user === undefined)
    throw new CollectiveError(
      'config_invalid',
      `Use context '${entry.name}': ${file} has no ${member === undefined ? `member '${entry.member}'` : `user '${entry.user}'`}`,
    );
  return {
    name: entry.name,
    current: config.currentContext === entry.name,
    coordinator: member.coordinator,
    trustDomain: member.trustDomain,
    credentials: resolve(dirname(file), user.credentials),
    listener: entry.listener,
    via: member.via,
  };
}

function withEntry<T extends { readonly name: string }>(entries: readonly T[], entry: T): T[] {
  const known = entries.some((one) => one.name === entry.name);
  return known ? entries.map((one) => (one.name === entry.name ? entry : one)) : [...entries, entry];
}

function checkName(name: string): string {
  if (!CONTEXT_NAME.test(name))
    throw new CollectiveError(
      'invalid_argument',
      `Use '${name}' as a context name: it has letters, digits, '.', '_', '@' and '-', at most 100, and begins with a letter or digit`,
    );
  return name;
}

async function replaceFile(file: string, text: string): Promise<void> {
  const aside = `${file}.${process.pid}.new`;
  const handle = await open(aside, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(aside, file);
}

async function takeLock(path: string, waitMs: number): Promise<AsyncDisposable> {
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    try {
      const handle = await open(path, 'wx', 0o600);
      await handle.close();
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    const held = await stat(path).catch(() => undefined);
    if (held !== undefined && performance.timeOrigin + performance.now() - held.mtimeMs > LOCK_STALE_AFTER_MS)
      await rm(path, { force: true });
    else if (performance.now() > deadlineMs)
      throw new CollectiveError(
        'busy',
        `Lock ${path}: another command has held it for ${waitMs} ms; remove it if none runs`,
      );
    else await delay(LOCK_POLL_MS);
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
