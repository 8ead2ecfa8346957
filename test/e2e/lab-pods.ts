/**
 * Pods that prove the lab: a small HTTP program on Node, out of the image of this tree, that notes each of its starts in its
 * volumes and tells what it finds there. All of them pass Pod Security "restricted".
 */
import type { KubeObject } from '../apiserver/api-client.ts';

export const PORT = 8080;
export const USER = 65532;

const PROGRAM = `
const { appendFileSync, readFileSync, statSync } = require('node:fs');
const { lookup } = require('node:dns/promises');
const { hostname } = require('node:os');
const volumes = JSON.parse(process.env.VOLUMES);
for (const volume of volumes) appendFileSync('/volumes/' + volume + '/starts', hostname() + '\\n');
const facts = () => Object.fromEntries(volumes.map((volume) => {
  const { uid, gid } = statSync('/volumes/' + volume + '/starts');
  const folder = statSync('/volumes/' + volume);
  const starts = readFileSync('/volumes/' + volume + '/starts', 'utf8').trim().split('\\n');
  return [volume, { starts, uid, gid, folder: { gid: folder.gid, mode: folder.mode & 0o7777 } }];
}));
require('node:http').createServer((request, response) => {
  const url = new URL(request.url, 'http://pod');
  const name = url.searchParams.get('lookup');
  const answer = name === null
    ? Promise.resolve({ pod: hostname(), node: process.env.NODE_NAME, volumes: facts() })
    : lookup(name).catch(({ code }) => ({ code }));
  answer.then((found) => response.end(JSON.stringify(found)));
}).listen(${PORT});
process.on('SIGTERM', () => process.exit(0));
`;

export interface KeeperFacts {
  readonly pod: string;
  readonly node: string;
  readonly volumes: Readonly<Record<string, VolumeFacts>>;
}

export interface VolumeFacts {
  /** Host names of the pods that have used it, in order. */
  readonly starts: readonly string[];
  readonly uid: number;
  readonly gid: number;
  readonly folder: { readonly gid: number; readonly mode: number };
}

export function podSpec(image: string, volumes: readonly string[]): object {
  return {
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 5,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [
      {
        name: 'keeper',
        image,
        imagePullPolicy: 'Never',
        command: ['node', '-e', PROGRAM],
        env: [
          { name: 'VOLUMES', value: JSON.stringify(volumes) },
          { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
        ],
        ports: [{ name: 'http', containerPort: PORT }],
        readinessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 1 },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        volumeMounts: volumes.map((name) => ({ name, mountPath: `/volumes/${name}` })),
      },
    ],
  };
}

/** One pod with a volume of each class, called as its class. */
export function keeper(name: string, image: string, classes: readonly string[], more: object = {}): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name },
    spec: {
      serviceName: name,
      replicas: 1,
      selector: { matchLabels: { app: name } },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      template: { metadata: { labels: { app: name } }, spec: { ...podSpec(image, classes), ...more } },
      volumeClaimTemplates: classes.map((storageClassName) => ({
        metadata: { name: storageClassName },
        spec: { accessModes: ['ReadWriteOnce'], storageClassName, resources: { requests: { storage: '64Mi' } } },
      })),
    },
  };
}

export function service(name: string, type: 'NodePort' | 'headless'): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: {
      selector: { app: name },
      ports: [{ name: 'http', port: PORT, targetPort: 'http' }],
      ...(type === 'headless' ? { clusterIP: 'None' } : { type }),
    },
  };
}
