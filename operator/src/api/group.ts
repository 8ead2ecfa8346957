/** Names of the API that every part of the operator spells alike (K1). */
export const API_GROUP = 'collective.storage';
export const API_VERSION = 'collective.storage/v1alpha1';

/** Keys of labels and annotations that are ours. Triggers are annotations, never writes to a spec. */
export const LABELS = {
  member: 'collective.storage/member',
  node: 'collective.storage/node',
  pool: 'collective.storage/pool',
  collective: 'collective.storage/collective',
} as const;

export const ANNOTATIONS = {
  /** On a Member: another value than the last one handled begins the next CA generation (T6). */
  rotateCa: 'collective.storage/rotate-ca',
  /** On a Member: names of nodes, comma-separated, that are drained and removed (K2). */
  drainNodes: 'collective.storage/drain-nodes',
  /** On a Member: "true" lets it be deleted although the coordinator cannot be asked (K3). */
  forceDelete: 'collective.storage/force-delete',
  /** On a Member: the uid of a lost coordinator volume; the member then begins anew with an empty one. */
  acceptLostVolume: 'collective.storage/accept-lost-volume',
  /** On a Member: which backup becomes the metadata again, once their volume is gone. On the volume claim that takes its place: the same. */
  restoreFrom: 'collective.storage/restore-from',
  /** On the volume claim of a coordinator: "true" once it has served with it, for a Member that is deleted and comes back (K3). */
  began: 'collective.storage/began',
  /** On pods: what changed, so that kubelet looks at once (T6). */
  trustBundleHash: 'collective.storage/trust-bundle-hash',
  /** On pods and their StatefulSets: what of the template needs another start when it changes (K2). */
  templateHash: 'collective.storage/template-hash',
  /** On the volume claim of a node that is to go: "Draining", then "Drained" when the coordinator says that it is empty (K3). */
  removal: 'collective.storage/removal',
  /** On the Certificate of an authority: hash of what of `spec.ca` it was made from. */
  caSettings: 'collective.storage/ca-settings',
  /** On all that the operator applies: hash of what it meant, so that one that starts anew sees what is as it was. */
  applied: 'collective.storage/applied',
} as const;

/** For the page of reference: what people may write on a Member, and what happens. */
export const ANNOTATIONS_EXPLAINED: Readonly<Record<string, string>> = {
  [ANNOTATIONS.rotateCa]: 'Another value than the last one begins the next generation of the authority. Use a date.',
  [ANNOTATIONS.drainNodes]: 'Names of nodes, with commas between them, that are emptied and then taken away.',
  [ANNOTATIONS.forceDelete]: '"true": the Member may be deleted although its coordinator cannot be asked.',
  [ANNOTATIONS.acceptLostVolume]:
    'Uid of the volume claim that the coordinator lost, as the message of the condition says it: the member goes on with the claim that is there now, restored or empty.',
  [ANNOTATIONS.restoreFrom]:
    'Name of a backup, or "latest": the coordinator gets a new volume with the metadata of that backup. Only where it has none: what is there is never overwritten. The operator takes the annotation away when that is done.',
};

export const FINALIZER = 'collective.storage/member';
export const FIELD_MANAGER = 'collective-operator';

/** All conditions of a Member. Ready, Reconciling and Stalled are exactly those of kstatus. */
export const MEMBER_CONDITIONS = [
  'Ready',
  'Reconciling',
  'Stalled',
  'CertificatesReady',
  'CoordinatorReady',
  'NodesReady',
  'ReplicationHealthy',
  'Upgrading',
] as const;
export type MemberCondition = (typeof MEMBER_CONDITIONS)[number];

/** For the page of reference: what is so when the condition is True. */
export const CONDITIONS_EXPLAINED: Readonly<Record<MemberCondition, string>> = {
  Ready: 'coordinator, nodes and certificates are as the spec wants them, and serve',
  Reconciling: 'the operator is at work on a change, or waits for one to take effect',
  Stalled: 'nothing goes on until somebody does what the message says',
  CertificatesReady: 'every certificate is issued, not near its end, and signed by the present authority',
  CoordinatorReady: 'the coordinator serves',
  NodesReady: 'every node serves',
  ReplicationHealthy:
    'every block lies on as many nodes as it should, and none that was lost waits for somebody to see to it',
  Upgrading: 'pods are being replaced, one node at a time',
};
