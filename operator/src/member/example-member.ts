/** A Member and its Collective for tests: `alice` of `photos`, in the namespace `team`. */
import type { Collective, CollectiveDefaults } from '../api/collective.ts';
import { API_VERSION } from '../api/group.ts';
import type { Member, MemberSpec } from '../api/member.ts';
import type { ObjectMeta } from '../kube/kube-object.ts';
import type { OperatorSettings } from './shape.ts';

export function exampleMember(spec: Partial<MemberSpec> = {}, metadata: Partial<ObjectMeta> = {}): Member {
  return {
    apiVersion: API_VERSION,
    kind: 'Member',
    metadata: {
      name: 'alice',
      namespace: 'team',
      uid: 'a11ce',
      generation: 1,
      creationTimestamp: '2026-11-01T00:00:00Z',
      ...metadata,
    },
    spec: {
      collectiveRef: { name: 'photos' },
      nodePools: [{ name: 'disk', replicas: 3, capacity: '100Gi' }],
      ...spec,
    },
  };
}

export function exampleCollective(defaults?: CollectiveDefaults): Collective {
  return {
    apiVersion: API_VERSION,
    kind: 'Collective',
    metadata: { name: 'photos', namespace: 'team', uid: 'f07', generation: 1 },
    spec: { domain: 'photos.example', defaults },
  };
}

export function operatorSettings(): OperatorSettings {
  return { image: 'collective:1.0.0', imagePullPolicy: 'IfNotPresent', networkPolicies: false };
}
