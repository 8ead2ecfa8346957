/** Volumes of coordinator, nodes and backups. They belong to nobody, so that no deletion of another object takes them along (K3). */
import type { IPersistentVolumeClaim } from 'kubernetes-models/v1/PersistentVolumeClaim';
import type { KubeObject } from '../../kube/kube-object.ts';
import { type LabelFacts, labelsOf } from '../names.ts';
import { raw } from './raw.ts';

export interface VolumeClaimOptions {
  readonly namespace: string;
  readonly name: string;
  readonly labels: LabelFacts;
  readonly size: string;
  readonly storageClass?: string;
  /** Of the one that is there: it is changed, and never made anew. */
  readonly uid?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export function volumeClaim(options: VolumeClaimOptions): KubeObject {
  const { namespace, name, labels, size, storageClass, uid, annotations } = options;
  return raw({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name,
      namespace,
      uid,
      labels: labelsOf(labels),
      annotations: annotations === undefined ? undefined : { ...annotations },
    },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: storageClass,
      resources: { requests: { storage: size } },
    },
  } satisfies IPersistentVolumeClaim);
}
