/**
 * Whether the realms of a run have quotas, and who makes and dissolves realms of directories that clients work in meanwhile (M9): a
 * person who tries again and again, at any time, whatever came of it before.
 */
import type { ProcessClock } from '@collective/base/fake-clock';
import { pickOne, type Random, randomBelow, randomUnit } from '@collective/base/random';
import type { CoordinatorCore } from '@collective/coordinator/core';
import type { RealmRow } from '@collective/coordinator/tables/gen/tables';
import { isRefusal } from './judged-realms.ts';
import type { RandomStreams } from './random-streams.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** One in so many seeds has quotas, one in so many realms that come and go. */
const QUOTA_SEEDS = 4;
const REALM_SEEDS = 4;
const REALMS_MAX = 3;
const PAUSE_MS = 800;

export type Quota = Pick<RealmRow, 'quotaBytes' | 'quotaInodes'>;

export const NO_QUOTA: Quota = { quotaBytes: 0, quotaInodes: 0 };

export interface RealmPlan {
  /** Of the root realm. */
  readonly quota: Quota;
  /** Directories that are made realms; none: nobody makes any. */
  readonly paths: readonly string[];
  /** The largest content that clients write, where bytes are to run out. */
  readonly contentBytesMax: number | undefined;
  readonly random: Random;
}

/** `folders`: that are there from the start, and never go; those first in which clients meet. */
export function drawRealmPlan(streams: RandomStreams, folders: readonly string[]): RealmPlan {
  const random = streams('realms');
  const hasQuota = randomBelow(random, QUOTA_SEEDS) === 0;
  const makesRealms = randomBelow(random, REALM_SEEDS) === 0;
  const quota = hasQuota ? drawQuota(random, folders.length) : NO_QUOTA;
  return {
    quota,
    paths: makesRealms ? folders.slice(0, REALMS_MAX) : [],
    contentBytesMax: quota.quotaBytes === 0 ? undefined : Math.floor(quota.quotaBytes / 8),
    random,
  };
}

/** Little, so that one session holds all of it, or as much as several share. */
function drawQuota(random: Random, inodesMin: number): Quota {
  const which = randomBelow(random, 3);
  const bytes = pickOne(random, [100 * KiB, 400 * KiB, 6 * MiB, 12 * MiB]);
  return {
    quotaBytes: which === 0 ? 0 : bytes,
    quotaInodes: which === 1 ? 0 : 1 + inodesMin + 3 + randomBelow(random, 15),
  };
}

export interface RealmMaker {
  readonly core: CoordinatorCore;
  readonly clock: ProcessClock;
  readonly plan: RealmPlan;
  /** What all realms of the run have. */
  readonly rule: Pick<RealmRow, 'replicas' | 'minReplicas' | 'trashYields'> & { readonly trashSeconds: number };
  /** False: clients rest, and so do realms. */
  readonly mayAct: () => boolean;
  readonly onEvent: (what: string) => void;
  readonly onBreach: (error: unknown) => void;
}

/** In one start of the coordinator. */
export function makeRealms(maker: RealmMaker): void {
  const { clock, plan, mayAct, onBreach } = maker;
  if (plan.paths.length === 0) return;
  clock.setTimer(
    randomUnit(plan.random) * PAUSE_MS,
    () => {
      if (mayAct())
        makeOrDissolve(maker).catch((error: unknown) => {
          if (!isRefusal(error)) onBreach(error);
        });
      makeRealms(maker);
    },
    { background: true },
  );
}

async function makeOrDissolve({ core, plan, rule, onEvent }: RealmMaker): Promise<void> {
  const { random, paths } = plan;
  const path = pickOne(random, paths);
  const quota = randomBelow(random, 2) === 0 ? NO_QUOTA : drawQuota(random, 0);
  const isRealm = (await core.listRealms()).some((realm) => realm.path === path);
  if (isRealm) {
    await core.dissolveRealm(path);
    onEvent(`realm ${path} is being dissolved`);
    return;
  }
  await core.createRealm({ path, ...quota, ...rule, compressionOff: false, sharesRights: true });
  onEvent(`realm ${path} is being made, with ${quota.quotaBytes} bytes and ${quota.quotaInodes} inodes`);
}
