/**
 * What the pods of coordinator, nodes, backups and restores share: Pod Security `restricted`, a read-only root, the identity as
 * one projected volume (T4) where they speak to others, and no token of the apiserver, which they never speak to.
 */
import type { IIoK8sApiCoreV1Container as Container } from 'kubernetes-models/v1/Container';
import type { IIoK8sApiCoreV1EnvVar as EnvVar } from 'kubernetes-models/v1/EnvVar';
import type { IIoK8sApiCoreV1PodSpec as PodSpec } from 'kubernetes-models/v1/PodSpec';
import type { IIoK8sApiCoreV1Volume as Volume } from 'kubernetes-models/v1/Volume';
import type { ResourceRequirements } from '../../api/pod.ts';
import { quantityBytes } from '../../kube/quantity.ts';
import { namesOf } from '../names.ts';
import type { MemberShape, Scheduling } from '../shape.ts';

/** The user of the image. */
const UID = 65532;
export const TLS_FOLDER = '/etc/collective/tls';
export const VOLUME_FOLDER = '/var/lib/collective';
/** What a container writes there is told in the status of its pod. */
export const TERMINATION_MESSAGE = '/dev/termination-log';
/** Of the memory limit; the rest is for buffers, SQLite and the program itself. */
const HEAP_SHARE = 0.6;
const MiB = 2 ** 20;

export interface PodParts {
  readonly shape: MemberShape;
  readonly scheduling: Scheduling;
  readonly resources: ResourceRequirements;
  readonly container: { readonly name: string; readonly args: readonly string[] } & Pick<
    Container,
    'ports' | 'startupProbe' | 'livenessProbe' | 'readinessProbe'
  >;
  readonly env: readonly EnvVar[];
  /** Secret of the leaf; absent: it speaks to nobody. */
  readonly tlsSecret?: string;
  readonly volumeClaim: string;
  /** A second volume, which it only reads. */
  readonly source?: { readonly volumeClaim: string; readonly mountPath: string };
  readonly terminationGracePeriodSeconds: number;
  readonly pod?: Partial<PodSpec>;
}

export function podSpec(parts: PodParts): PodSpec {
  const { shape, scheduling, resources, container, tlsSecret, volumeClaim, source } = parts;
  const { affinity, tolerations, nodeSelector } = scheduling;
  return {
    serviceAccountName: namesOf(shape.member).serviceAccount,
    automountServiceAccountToken: false,
    // Variables of other Services would look like settings of ours.
    enableServiceLinks: false,
    terminationGracePeriodSeconds: parts.terminationGracePeriodSeconds,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: UID,
      runAsGroup: UID,
      fsGroup: UID,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    },
    imagePullSecrets:
      shape.imagePullSecrets.length === 0 ? undefined : shape.imagePullSecrets.map((name) => ({ name })),
    priorityClassName: shape.priorityClassName,
    affinity: affinity as PodSpec['affinity'],
    tolerations: tolerations.map((toleration) => ({ ...toleration })),
    nodeSelector: nodeSelector === undefined ? undefined : { ...nodeSelector },
    ...parts.pod,
    containers: [
      {
        ...container,
        command: ['collective'],
        args: [...container.args],
        image: shape.image,
        imagePullPolicy: shape.imagePullPolicy,
        env: [...parts.env, ...heapEnv(resources)],
        resources: { requests: { ...resources.requests }, limits: { ...resources.limits } },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        terminationMessagePolicy: 'FallbackToLogsOnError',
        volumeMounts: [
          ...(tlsSecret === undefined ? [] : [{ name: 'tls', mountPath: TLS_FOLDER, readOnly: true }]),
          { name: 'data', mountPath: VOLUME_FOLDER },
          ...(source === undefined ? [] : [{ name: 'source', mountPath: source.mountPath, readOnly: true }]),
          { name: 'tmp', mountPath: '/tmp' },
        ],
      },
    ],
    volumes: [
      ...(tlsSecret === undefined ? [] : [identityVolume(shape, tlsSecret)]),
      { name: 'data', persistentVolumeClaim: { claimName: volumeClaim } },
      ...(source === undefined ? [] : [{ name: 'source', persistentVolumeClaim: { claimName: source.volumeClaim } }]),
      { name: 'tmp', emptyDir: {} },
    ],
  };
}

function identityVolume({ member }: MemberShape, tlsSecret: string): Volume {
  return {
    name: 'tls',
    projected: {
      // The group may read: the files belong to root.
      defaultMode: 0o440,
      sources: [
        {
          secret: {
            name: tlsSecret,
            items: [
              { key: 'tls.crt', path: 'tls.crt' },
              { key: 'tls.key', path: 'tls.key' },
            ],
          },
        },
        { configMap: { name: namesOf(member).trust, items: [{ key: 'trust.pem', path: 'trust.pem' }] } },
      ],
    },
  };
}

/** Settings by environment, as `--help` of each program names them. */
export function settingsEnv(settings: Readonly<Record<string, string | undefined>>): EnvVar[] {
  return Object.entries(settings).flatMap(([name, value]) =>
    value === undefined ? [] : [{ name: `COLLECTIVE_${name}`, value }],
  );
}

/** Node looks at the limit itself, but gives half of a small one to the heap and the rest to nobody. */
function heapEnv({ limits }: ResourceRequirements): EnvVar[] {
  const { memory } = limits ?? {};
  const home: EnvVar = { name: 'HOME', value: '/tmp' };
  if (memory === undefined) return [home];
  const heapMiB = Math.floor((quantityBytes(String(memory)) * HEAP_SHARE) / MiB);
  return [home, { name: 'NODE_OPTIONS', value: `--max-old-space-size=${heapMiB}` }];
}

export function probes(): Pick<Container, 'startupProbe' | 'livenessProbe' | 'readinessProbe'> {
  const get = (path: string) => ({ httpGet: { path, port: 'health' as const } });
  return {
    // Ten minutes for a long log to be read or a disk to be scanned.
    startupProbe: { ...get('/livez'), periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 300 },
    livenessProbe: { ...get('/livez'), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    readinessProbe: { ...get('/readyz'), periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 2 },
  };
}
