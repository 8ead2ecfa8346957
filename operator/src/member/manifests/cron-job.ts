/** The scheduled backup of a member's metadata into a volume of its own, as the user `backup.operator`. */
import type { ICronJob } from 'kubernetes-models/batch/v1/CronJob';
import type { KubeObject } from '../../kube/kube-object.ts';
import { labelsOf, memberAddress, namesOf } from '../names.ts';
import type { BackupShape, MemberShape } from '../shape.ts';
import { podSpec, TERMINATION_MESSAGE, TLS_FOLDER, VOLUME_FOLDER } from './pod-template.ts';
import { raw } from './raw.ts';

/** One that could not begin for so long is left out; the next comes. */
const BEGINS_WITHIN_SECONDS = 3_600;
const ENDS_WITHIN_SECONDS = 3_600;
const ATTEMPTS = 2;
const RESOURCES = { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '512Mi' } };

/** `rests`: there is no coordinator that could be saved, and the volume is needed for its restore. */
export function backupCronJob(shape: MemberShape, backup: BackupShape, { rests }: { rests: boolean }): KubeObject {
  const { namespace, member, collective, owner } = shape;
  const names = namesOf(member);
  const labels = labelsOf({ member, collective, component: 'backup' });
  const spec = podSpec({
    shape,
    scheduling: backup,
    resources: RESOURCES,
    container: {
      name: 'backup',
      args: [
        ...['backup', 'create', `${VOLUME_FOLDER}/`, '--keep', String(backup.keep)],
        ...[
          '--identity',
          TLS_FOLDER,
          '--coordinator',
          memberAddress(member, namespace),
          '--report',
          TERMINATION_MESSAGE,
        ],
      ],
    },
    env: [],
    tlsSecret: names.backupTls,
    volumeClaim: names.backup,
    terminationGracePeriodSeconds: 10,
    pod: { restartPolicy: 'Never' },
  });
  return raw({
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name: names.backup, namespace, labels, ownerReferences: [{ ...owner }] },
    spec: {
      schedule: backup.schedule,
      timeZone: 'Etc/UTC',
      suspend: backup.suspend || rests,
      concurrencyPolicy: 'Forbid',
      startingDeadlineSeconds: BEGINS_WITHIN_SECONDS,
      successfulJobsHistoryLimit: 1,
      failedJobsHistoryLimit: 1,
      jobTemplate: {
        metadata: { labels },
        spec: {
          backoffLimit: ATTEMPTS,
          activeDeadlineSeconds: ENDS_WITHIN_SECONDS,
          template: { metadata: { labels }, spec },
        },
      },
    },
  } satisfies ICronJob);
}
