/**
 * The volume claims of a member (K3): made once, grown, never shrunk and never made anew in silence. A lost volume of the
 * coordinator stops the member, since an empty one would look like a member without files, until somebody orders a restore
 * (`plan-restore.ts`) or accepts the loss; a lost volume of a node is a lost disk, which the coordinator repairs, so that node
 * gets an empty one.
 */
import { ANNOTATIONS } from '../api/group.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { annotationOf, type ClaimFacts, claimFacts, conditionOf, isDeleting } from '../kube/object-facts.ts';
import { bytesOf } from '../kube/quantity.ts';
import { RESOURCES } from '../kube/resources.ts';
import { LATEST, type RestoreWish } from './manifests/restore-job.ts';
import { volumeClaim } from './manifests/volume-claim.ts';
import { type LabelFacts, namesOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import type { NodesPlan } from './plan-nodes.ts';
import { type RestoreProgress, restoreOrder, restoreProgress } from './plan-restore.ts';
import type { Apply, PlannedEvent } from './plan-types.ts';
import type { MemberShape, PoolShape } from './shape.ts';

/** Of its volume a node gives this share; the rest is for the file system and the index. */
const NODE_SHARE = 0.95;
/** Value of the annotation for a volume whose uid nobody knows any more. */
export const UNKNOWN_VOLUME = 'unknown';

export type CoordinatorVolume =
  | { readonly state: 'fine'; readonly uid?: string; readonly restored?: RestoredVolume }
  /** The one that is named must be there, and is not. */
  | { readonly state: 'lost'; readonly uid: string; readonly message: string }
  /** It is filled from a backup; `wish` is absent until the claim is there. */
  | {
      readonly state: 'restoring';
      readonly from: string;
      readonly wish?: RestoreWish;
      readonly progress: Exclude<RestoreProgress, { state: 'done' }>;
    };

/** Filled a moment ago, which the status does not say yet. */
export interface RestoredVolume {
  readonly order: string;
  readonly volumeUid: string;
  readonly file?: string;
  readonly at?: string;
}

export interface VolumesPlan {
  readonly applies: readonly Apply[];
  readonly coordinator: CoordinatorVolume;
  /** The coordinator has served: unless a loss was accepted, it must find what it had. */
  readonly expectsData: boolean;
  /** Bytes that each node gives. */
  readonly capacities: ReadonlyMap<string, number>;
  /** Being enlarged: name of the claim and what its driver says. */
  readonly growing: readonly { readonly claim: string; readonly message: string }[];
  readonly events: readonly PlannedEvent[];
}

export function planVolumes(picture: MemberPicture, shape: MemberShape, nodes: NodesPlan): VolumesPlan {
  const coordinator = coordinatorVolume(picture, shape);
  const served = hasServed(picture, shape);
  const applies: Apply[] = [];
  if (coordinator.state !== 'lost')
    applies.push(claimApply(picture, shape, coordinatorClaim(shape, coordinator, served.byClaim)));
  const capacities = new Map<string, number>();
  const events: PlannedEvent[] = [];
  for (const { name, pool, leaving } of nodes.nodes) {
    const claim = picture.objects.volumeClaims.get(namesOf(shape.member).node(name));
    const poolShape = shape.pools.find((each) => each.name === pool);
    if (claim === undefined && leaving !== undefined) continue;
    if (claim === undefined && wasThere(picture, name)) events.push(lostDisk(name));
    applies.push(claimApply(picture, shape, nodeClaim(shape, name, pool, poolShape, leaving)));
    capacities.set(name, nodeCapacityBytes(poolShape?.size, claim === undefined ? undefined : claimFacts(claim)));
  }
  const { backup } = shape;
  if (backup !== undefined) applies.push(claimApply(picture, shape, backupClaim(shape, backup)));
  return {
    applies,
    coordinator,
    expectsData: isRestored(coordinator) || served.isExpected,
    capacities,
    growing: applies.flatMap(({ object }) => growth(picture.objects.volumeClaims.get(object.metadata.name), object)),
    events,
  };
}

/**
 * What a node may fill: of the size that is wanted once its volume has it. Until a volume is bound the wanted size counts, so that
 * its pod is made only once.
 */
export function nodeCapacityBytes(wanted: string | undefined, claim: ClaimFacts | undefined): number {
  const has = claim?.capacityBytes ?? Number.POSITIVE_INFINITY;
  const asks = Math.max(bytesOf(wanted) ?? 0, claim?.requestedBytes ?? 0);
  return Math.floor(Math.min(asks, has) * NODE_SHARE);
}

function coordinatorVolume(picture: MemberPicture, shape: MemberShape): CoordinatorVolume {
  const { member, objects } = picture;
  const claim = objects.volumeClaims.get(namesOf(shape.member).coordinator);
  const known = member.status?.coordinator?.volumeUid;
  const uid = claim?.metadata.uid;
  const from = restoreOrder(picture, claim);
  if (from !== undefined && mayBeRestored(picture, claim)) return restoring(picture, shape, claim, from);
  if (known === undefined) {
    if (claim !== undefined || isAccepted({ member }, UNKNOWN_VOLUME) || !keepsChunks(objects.volumeClaims))
      return fine(uid);
    return lost(
      picture,
      UNKNOWN_VOLUME,
      shape,
      'The volume of the coordinator is not there, although volumes of nodes were kept',
    );
  }
  // Before it served for the first time there is nothing to lose.
  if (uid === known || isAccepted({ member }, known) || member.status?.coordinator?.began !== true) return fine(uid);
  return lost(
    picture,
    known,
    shape,
    uid === undefined
      ? `The volume claim ${namesOf(shape.member).coordinator} (uid ${known}) with the metadata of the member is gone`
      : `The volume claim ${namesOf(shape.member).coordinator} is another one (uid ${uid}) than that with the metadata (uid ${known})`,
  );
}

/**
 * By the status, or by the claim: the status of a Member that was deleted is gone with it, while its claim was kept, and an empty volume
 * behind that claim would look like a member without files.
 */
function hasServed(
  picture: MemberPicture,
  shape: MemberShape,
): { readonly byClaim: boolean; readonly isExpected: boolean } {
  const claim = picture.objects.volumeClaims.get(namesOf(shape.member).coordinator);
  const { began = false, volumeUid } = picture.member.status?.coordinator ?? {};
  const uid = claim?.metadata.uid;
  const isMarked = claim !== undefined && annotationOf(claim, ANNOTATIONS.began) === 'true';
  return {
    byClaim: isMarked || (began && uid !== undefined && uid === volumeUid),
    isExpected: (began && !isAccepted(picture, volumeUid)) || (isMarked && !isAccepted(picture, uid)),
  };
}

/** Only what has no metadata: no volume, one that is not that of the metadata, or one that a restore has begun to fill. */
function mayBeRestored({ member }: MemberPicture, claim: KubeObject | undefined): boolean {
  const known = member.status?.coordinator?.volumeUid;
  if (isAccepted({ member }, known ?? UNKNOWN_VOLUME)) return false;
  if (claim === undefined) return true;
  const isBeingFilled = annotationOf(claim, ANNOTATIONS.restoreFrom) !== undefined;
  return claim.metadata.uid !== known && (known !== undefined || isBeingFilled);
}

function restoring(
  picture: MemberPicture,
  shape: MemberShape,
  claim: KubeObject | undefined,
  from: string,
): CoordinatorVolume {
  const claimUid = claim?.metadata.uid;
  if (claimUid === undefined)
    return { state: 'restoring', from, progress: { state: 'waiting', message: 'A new volume is made' } };
  const wish = { from, claimUid };
  const progress = restoreProgress(picture, shape, wish);
  if (progress.state !== 'done') return { state: 'restoring', from, wish, progress };
  const { state: _, ...restored } = progress;
  return { ...fine(claimUid), restored: { order: from, volumeUid: claimUid, ...restored } };
}

function isRestored(volume: CoordinatorVolume): boolean {
  return volume.state === 'fine' && volume.restored !== undefined;
}

function isAccepted({ member }: Pick<MemberPicture, 'member'>, uid: string | undefined): boolean {
  return uid !== undefined && member.metadata.annotations?.[ANNOTATIONS.acceptLostVolume] === uid;
}

function fine(uid: string | undefined): CoordinatorVolume & { readonly state: 'fine' } {
  return { state: 'fine', ...(uid === undefined ? {} : { uid }) };
}

function lost(
  { objects }: MemberPicture,
  uid: string,
  { namespace, member, backup }: MemberShape,
  what: string,
): CoordinatorVolume {
  const annotate = (key: string, value: string): string =>
    `kubectl annotate -n ${namespace} member ${member} ${key}=${value}`;
  const hasBackups = backup !== undefined || objects.volumeClaims.has(namesOf(member).backup);
  const restore = hasBackups ? ` To restore the newest backup: ${annotate(ANNOTATIONS.restoreFrom, LATEST)}.` : '';
  return {
    state: 'lost',
    uid,
    message: `${what}.${restore} To go on with a volume that was put under that name from a snapshot, or else to begin without any files: ${annotate(ANNOTATIONS.acceptLostVolume, uid)}`,
  };
}

function keepsChunks(claims: ReadonlyMap<string, KubeObject>): boolean {
  return [...claims.values()].some(
    (claim) => claim.metadata.labels?.['app.kubernetes.io/component'] === 'node' && claimFacts(claim).phase === 'Bound',
  );
}

/** Not so for a node that is new. */
function wasThere({ member }: MemberPicture, node: string): boolean {
  return member.status?.nodes?.some(({ name, volumeUid }) => name === node && volumeUid !== undefined) === true;
}

function lostDisk(node: string): PlannedEvent {
  return {
    type: 'Warning',
    reason: 'NodeVolumeLost',
    message: `The volume of node ${node} is gone: it gets an empty one, and what lay there is copied anew from other nodes`,
  };
}

interface WantedClaim {
  readonly name: string;
  readonly labels: LabelFacts;
  readonly size: string;
  readonly storageClass?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

function coordinatorClaim(
  { member, collective, coordinator }: MemberShape,
  volume: CoordinatorVolume,
  hasServed: boolean,
): WantedClaim {
  const { size, storageClass } = coordinator;
  const from =
    volume.state === 'restoring' ? volume.from : volume.state === 'fine' ? volume.restored?.order : undefined;
  const annotations: Record<string, string> = {
    ...(from === undefined ? {} : { [ANNOTATIONS.restoreFrom]: from }),
    ...(hasServed ? { [ANNOTATIONS.began]: 'true' } : {}),
  };
  return {
    name: namesOf(member).coordinator,
    labels: { member, collective, component: 'coordinator' },
    size,
    storageClass,
    annotations: Object.keys(annotations).length === 0 ? undefined : annotations,
  };
}

function nodeClaim(
  { member, collective }: MemberShape,
  node: string,
  pool: string,
  poolShape: PoolShape | undefined,
  leaving: string | undefined,
): WantedClaim {
  return {
    name: namesOf(member).node(node),
    labels: { member, collective, component: 'node', node, pool },
    size: poolShape?.size ?? '0',
    storageClass: poolShape?.storageClass,
    annotations: leaving === undefined ? undefined : { [ANNOTATIONS.removal]: leaving },
  };
}

function backupClaim(
  { member, collective }: MemberShape,
  backup: { size: string; storageClass?: string },
): WantedClaim {
  const { size, storageClass } = backup;
  return { name: namesOf(member).backup, labels: { member, collective, component: 'backup' }, size, storageClass };
}

/** What is there keeps its class, which cannot change, and its size unless a larger one is wanted. */
function claimApply({ objects }: MemberPicture, { namespace }: MemberShape, wanted: WantedClaim): Apply {
  const present = objects.volumeClaims.get(wanted.name);
  if (present === undefined) {
    return { resource: RESOURCES.volumeClaims, object: volumeClaim({ namespace, ...wanted }) };
  }
  const facts = claimFacts(present);
  const isLarger = (bytesOf(wanted.size) ?? 0) > facts.requestedBytes;
  return {
    resource: RESOURCES.volumeClaims,
    object: volumeClaim({
      namespace,
      ...wanted,
      uid: facts.uid,
      size: isLarger ? wanted.size : (facts.requested ?? wanted.size),
      storageClass: facts.storageClass,
    }),
  };
}

function growth(present: KubeObject | undefined, wanted: KubeObject): VolumesPlan['growing'] {
  if (present === undefined || isDeleting(present)) return [];
  const facts = claimFacts(present);
  const asked = claimFacts(wanted).requestedBytes;
  if (facts.capacityBytes === undefined || facts.capacityBytes >= asked) return [];
  const told = ['ControllerResizeError', 'NodeResizeError', 'FileSystemResizePending', 'Resizing']
    .map((type) => conditionOf(present, type))
    .find((condition) => condition?.status === 'True');
  return [{ claim: present.metadata.name, message: told?.message ?? told?.type ?? '' }];
}
