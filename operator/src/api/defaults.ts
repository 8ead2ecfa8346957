/**
 * What holds where a Member says nothing. These stand here and not in the CRDs: the apiserver gives a schema's default to stored
 * objects too, so another default would change members that run, and another life of the authority would rotate it (T6).
 */
export const DEFAULTS = {
  coordinatorStorage: '10Gi',
  backupStorage: '10Gi',
  backupsKept: 7,
  caDuration: '87600h',
  leafDuration: '720h',
  caOverlap: '168h',
  /** As a coordinator gives to a root realm (D8). */
  replicas: 2,
  minReplicas: 1,
} as const;
