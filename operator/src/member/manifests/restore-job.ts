/**
 * Fills the empty volume of a coordinator from a backup, while nobody else has it. It may be run again after it was killed, and
 * never writes over anything that is there (`restore-backup.ts`).
 */
import { createHash } from 'node:crypto';
import type { IJob } from 'kubernetes-models/batch/v1/Job';
import type { KubeObject } from '../../kube/kube-object.ts';
import { labelsOf, namesOf } from '../names.ts';
import type { MemberShape } from '../shape.ts';
import { podSpec, TERMINATION_MESSAGE, VOLUME_FOLDER } from './pod-template.ts';
import { raw } from './raw.ts';

/** As an order: the newest one of the member. */
export const LATEST = 'latest';
const BACKUPS_FOLDER = '/var/lib/collective-backups';
/** Again once: its machine may have gone. */
const ATTEMPTS = 1;
/** A hundred million files are 50 GB. */
const ENDS_WITHIN_SECONDS = 6 * 3_600;
const RESOURCES = { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '1Gi' } };

export interface RestoreWish {
  /** Name of a backup, or LATEST. */
  readonly from: string;
  /** Of the volume claim that is filled. */
  readonly claimUid: string;
}

/** Another backup, or another volume, is another job. */
export function restoreJobName(member: string, { from, claimUid }: RestoreWish): string {
  const hash = createHash('sha256').update(`${claimUid}/${from}`).digest('hex').slice(0, 10);
  return `${member}-restore-${hash}`;
}

export function restoreJob(shape: MemberShape, wish: RestoreWish): KubeObject {
  const { namespace, member, collective, owner, coordinator } = shape;
  const names = namesOf(member);
  const labels = labelsOf({ member, collective, component: 'restore' });
  const spec = podSpec({
    shape,
    // The volume is made where the coordinator will run.
    scheduling: coordinator,
    resources: RESOURCES,
    container: {
      name: 'restore',
      args: [
        ...['backup', 'restore', wish.from === LATEST ? `${BACKUPS_FOLDER}/` : `${BACKUPS_FOLDER}/${wish.from}`],
        ...['--member', member, '--collective', shape.domain, '--data', `${VOLUME_FOLDER}/coordinator`],
        ...['--report', TERMINATION_MESSAGE],
      ],
    },
    env: [],
    volumeClaim: names.coordinator,
    source: { volumeClaim: names.backup, mountPath: BACKUPS_FOLDER },
    terminationGracePeriodSeconds: 10,
    pod: { restartPolicy: 'Never' },
  });
  return raw({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: restoreJobName(member, wish), namespace, labels, ownerReferences: [{ ...owner }] },
    spec: {
      backoffLimit: ATTEMPTS,
      activeDeadlineSeconds: ENDS_WITHIN_SECONDS,
      template: { metadata: { labels }, spec },
    },
  } satisfies IJob);
}
