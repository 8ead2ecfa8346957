/**
 * Looks at the realms of the coordinator after each of its commits and grants, and judges what clients are told by them: no quota is
 * exceeded at any moment, nobody is refused for want of room while there was some (M9, M10), nothing is renamed or linked over a
 * border that stood all the while, and nobody is refused for a border that was nowhere.
 *
 * What rows say that a realm uses is compared with what lies in it at the end of a run (`leaks.ts`).
 */
import { CollectiveError } from '@collective/base/errors';
import { type RealmId, ROOT_REALM } from '@collective/base/ids';

import type { CoordinatorCore } from '@collective/coordinator/core';
import { storedRealms } from '@collective/coordinator/ops/realms';
import type { SessionLink } from '@collective/coordinator/session/session-stream';
import type { RealmRow } from '@collective/coordinator/tables/gen/tables';
import { readBigEndian } from '@collective/coordinator/tables/table';
import { INODES, REALMS } from '@collective/coordinator/tables/tables';
import type { Action } from './actions.ts';

/** What counts as one realm: while inodes move between two, both are the outer one. */
export interface SeenRealm {
  readonly path: string;
  /** No job is at work on its border. */
  readonly settled: boolean;
  readonly quotaBytes: number;
  readonly quotaInodes: number;
  readonly usedBytes: number;
  readonly usedInodes: number;
  /** Granted to sessions and not yet used. */
  readonly grantedBytes: number;
  /** Paths of borders below it that a job is drawing or taking away. */
  readonly moving: readonly string[];
}

/** The realms at one moment. */
export interface Look {
  readonly atMs: number;
  readonly realms: readonly SeenRealm[];
}

/** Over its quota, and by more than before: a quota that is set below what is used takes nothing away (M9). */
export function whyNotWithin(before: readonly SeenRealm[], now: readonly SeenRealm[]): string | undefined {
  for (const realm of now) {
    const was = before.find(({ path }) => path === realm.path);
    for (const what of ['Bytes', 'Inodes'] as const) {
      const [quota, used] = [realm[`quota${what}`], realm[`used${what}`]];
      if (quota === 0 || used <= quota) continue;
      // With another limit or another extent it has begun anew.
      const isSame = was !== undefined && was[`quota${what}`] === quota && sameMoves(was, realm);
      if (isSame && used > was[`used${what}`])
        return `realm ${realm.path} uses ${used} ${what.toLowerCase()} of its quota of ${quota}, before it were ${was[`used${what}`]}`;
    }
  }
  return undefined;
}

/** `looks`: from the last before the call to its answer. */
export function whyNotRefuse(looks: readonly Look[], action: Action): string | undefined {
  const bytes = 'bytes' in action ? action.bytes.length : 0;
  const isFull = ({ quotaBytes, usedBytes, grantedBytes, quotaInodes, usedInodes }: SeenRealm): boolean =>
    (quotaInodes > 0 && usedInodes >= quotaInodes && makesInodes(action)) ||
    (quotaBytes > 0 && bytes > 0 && usedBytes + grantedBytes + bytes > quotaBytes);
  return looks.some(({ realms }) => realms.some(isFull)) ? undefined : 'no realm was full all the while';
}

/** A rename or link was refused for a border. */
export function whyNotApart(looks: readonly Look[], action: Action): string | undefined {
  const paths = pathsOf(action);
  const apart = looks.some(({ realms }) => {
    const moving = realms.some((realm) => realm.moving.length > 0);
    return moving || realms.some((realm) => parts(realm.path, paths));
  });
  return apart ? undefined : `no border was between ${paths.join(' and ')} all the while`;
}

/** A rename or link was made. */
export function whyNotTogether(looks: readonly Look[], action: Action): string | undefined {
  const paths = pathsOf(action);
  const stood = (path: string): boolean =>
    looks.every(({ realms }) => realms.some((realm) => realm.path === path && realm.settled));
  const border = looks[0]?.realms.find(({ path }) => parts(path, paths) && stood(path));
  return border === undefined ? undefined : `the border of realm ${border.path} stood all the while`;
}

export interface RealmJudgeParts {
  /** True time. */
  nowMs(): number;
  /** Of the root realm, as it was given. */
  readonly quota: { readonly quotaBytes: number; readonly quotaInodes: number };
  onBreach(error: Error): void;
}

/** One for a whole run, over all starts of the coordinator. */
export class RealmJudge {
  readonly #parts: RealmJudgeParts;
  readonly #looks: Look[] = [];
  #refusals = 0;
  /** Power losses take changes back: what was before a start says nothing about what may be after it. */
  #startedAt = 0;

  constructor(parts: RealmJudgeParts) {
    this.#parts = parts;
  }

  /** Answers that told of a quota or a border. */
  get refusals(): number {
    return this.#refusals;
  }

  /** What it finds after each commit, and whenever the returned function is called. */
  async watch(core: CoordinatorCore): Promise<() => void> {
    const { engine } = core;
    const rows = new Map<RealmId, RealmRow>();
    for (const { realm, row } of await engine.run((tx) => storedRealms(tx), { durability: 'written' }))
      rows.set(realm, row);
    let isNoted = false;
    const look = (): void => {
      isNoted = false;
      this.#look(
        seenRealms(
          rows,
          (realm) => engine.usageOf(realm),
          (realm) => core.grantedBytes(realm),
        ),
      );
    };
    // Sums change in the turn of the commit, behind its rows.
    const note = (): void => {
      if (isNoted) return;
      isNoted = true;
      queueMicrotask(look);
    };
    engine.watch(REALMS, (key, row) => {
      rows.set(readBigEndian(key, REALMS.prefix.length, 6) as RealmId, row);
      note();
    });
    engine.watch(INODES, note);
    this.#startedAt = this.#looks.length;
    look();
    return look;
  }

  /** The link of a client: what is granted is told in an answer. */
  watched(link: SessionLink, look: () => void): SessionLink {
    return {
      send: (message) => {
        look();
        link.send(message);
      },
      receive: (signal) => link.receive(signal),
      drained: () => link.drained(),
      close: () => link.close(),
    };
  }

  /** A client that had called at `sinceMs` was refused. */
  refused(code: RealmRefusal, action: Action, sinceMs: number): void {
    this.#refusals++;
    const looks = this.#looksSince(sinceMs);
    const why = code === 'cross_realm' ? whyNotApart(looks, action) : whyNotRefuse(looks, action);
    if (why !== undefined)
      this.#parts.onBreach(
        new Error(`${action.do} was refused with ${code}: ${why}: ${JSON.stringify(looks.at(-1)?.realms)}`),
      );
  }

  done(action: Action, sinceMs: number): void {
    if (action.do !== 'rename' && action.do !== 'link') return;
    const why = whyNotTogether(this.#looksSince(sinceMs), action);
    if (why !== undefined)
      this.#parts.onBreach(new Error(`${action.do} ${pathsOf(action).join(' to ')} was made: ${why}`));
  }

  #look(seen: readonly SeenRealm[]): void {
    const realms = seen.map((realm) => (realm.path === '/' ? { ...realm, ...this.#parts.quota } : realm));
    const last = this.#looks.length > this.#startedAt ? this.#looks.at(-1) : undefined;
    const why = whyNotWithin(last?.realms ?? [], realms);
    if (why !== undefined) this.#parts.onBreach(new Error(`A quota is broken: ${why}`));
    this.#looks.push({ atMs: this.#parts.nowMs(), realms });
  }

  /** With the last one before, which still held when the time came. */
  #looksSince(sinceMs: number): readonly Look[] {
    const first = this.#looks.findLastIndex(({ atMs }) => atMs < sinceMs);
    return this.#looks.slice(Math.max(0, first));
  }
}

function seenRealms(
  rows: ReadonlyMap<RealmId, RealmRow>,
  usageOf: (realm: RealmId) => { readonly bytes: number; readonly inodes: number },
  grantedOf: (realm: RealmId) => number,
): SeenRealm[] {
  return [...rows].flatMap(([realm, row]) => {
    const { move } = row;
    if (row.mergedInto !== 0) return [];
    const isInner = move?.inner === realm;
    const members = move === undefined || isInner ? [realm] : [realm, move.inner as RealmId];
    const sum = (of: (each: RealmId) => number): number => members.reduce((all, each) => all + of(each), 0);
    return [
      {
        path: realm === ROOT_REALM ? '/' : row.path,
        settled: !isInner,
        // While it is one of two, the limits of the outer hold for both.
        quotaBytes: isInner ? 0 : row.quotaBytes,
        quotaInodes: isInner ? 0 : row.quotaInodes,
        usedBytes: sum((each) => usageOf(each).bytes),
        usedInodes: sum((each) => usageOf(each).inodes),
        grantedBytes: sum(grantedOf),
        moving: members.flatMap((each) => (each === realm ? [] : [rows.get(each)?.path ?? '?'])),
      },
    ];
  });
}

function sameMoves(a: SeenRealm, b: SeenRealm): boolean {
  return a.moving.join('\n') === b.moving.join('\n');
}

function makesInodes(action: Action): boolean {
  return action.do === 'mkdir' || action.do === 'symlink' || action.do === 'store' || action.do === 'create';
}

function pathsOf(action: Action): string[] {
  if (action.do === 'rename') return [action.from, action.to];
  return action.do === 'link' ? [action.existing, action.path] : [];
}

/** Some of the paths lie below the border, and some do not. */
function parts(border: string, paths: readonly string[]): boolean {
  const below = paths.filter((path) => border === '/' || path.startsWith(`${border}/`)).length;
  return below > 0 && below < paths.length;
}

export type RealmRefusal = 'quota_exceeded' | 'cross_realm';

export function isRealmRefusal(code: string): code is RealmRefusal {
  return code === 'quota_exceeded' || code === 'cross_realm';
}

/** Whoever makes and dissolves realms is refused for many reasons, and tries again another time. */
export function isRefusal(thrown: unknown): boolean {
  return thrown instanceof CollectiveError && thrown.code !== 'internal';
}
