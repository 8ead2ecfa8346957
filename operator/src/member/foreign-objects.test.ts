import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Member, MemberUser } from '../api/member.ts';
import { KubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectReference } from '../kube/kube-object.ts';
import { exampleMember } from './example-member.ts';
import { byName, exampleObjects } from './example-picture.ts';
import { foreignObjects } from './foreign-objects.ts';
import { labelsOf } from './names.ts';
import type { MemberObjects } from './picture.ts';

const users: MemberUser[] = [{ name: 'ann' }, { name: 'ben', secretName: 'database' }];

interface Given {
  /** In the cluster, by "Kind name". */
  readonly there?: Readonly<Record<string, Partial<KubeObject['metadata']>>>;
  /** Watched, since an operator made it: of another Member. */
  readonly watched?: Readonly<Record<string, Partial<KubeObject['metadata']>>>;
  readonly objects?: Partial<MemberObjects>;
  readonly status?: Member['status'];
  readonly error?: KubeError;
  readonly seesCertificates?: boolean;
}

async function look({ there = {}, watched = {}, objects = {}, status, error, seesCertificates = true }: Given) {
  const asked: string[] = [];
  const find = (
    from: typeof there,
    { resource: { apiVersion, kind }, name }: ObjectReference,
  ): KubeObject | undefined => {
    const metadata = from[`${kind} ${name}`];
    return metadata === undefined ? undefined : { apiVersion, kind, metadata: { name, ...metadata } };
  };
  const api = {
    get: async (reference: ObjectReference): Promise<KubeObject | undefined> => {
      asked.push(`${reference.resource.kind} ${reference.name}`);
      if (error !== undefined) throw error;
      return find(there, reference);
    },
  };
  const cache = { get: (reference: ObjectReference) => find(watched, reference), seesCertificates };
  const member = { ...exampleMember({ users }), status };
  const picture = { member, objects: { ...exampleObjects([]), ...objects } };
  const foreign = await foreignObjects({ api, cache }, picture, new AbortController().signal);
  return { asked, foreign: [...foreign] };
}

const ours = { labels: labelsOf({ member: 'alice', collective: 'photos' }) };
const bobs = { labels: labelsOf({ member: 'bob', collective: 'photos' }) };
const made = (name: string): KubeObject => ({ apiVersion: 'v1', kind: 'Some', metadata: { name } });

test('what is there under a name that a Member would take, and is not its own, is foreign', async () => {
  const there = { 'ServiceAccount alice': {}, 'Secret database': {}, 'Certificate alice-user-ann': ours };
  assert.deepEqual((await look({ there })).foreign, ['ServiceAccount/alice', 'Secret/database']);
});

test('what belongs to another Member of the namespace is foreign, without a call', async () => {
  const { foreign, asked } = await look({ watched: { 'Certificate database': bobs } });
  assert.deepEqual(foreign, ['Certificate/database']);
  assert.ok(!asked.includes('Certificate database'));
});

test('what this very Member owns is its own, also when its labels are gone', async () => {
  const owner = { apiVersion: 'v1', kind: 'Member', name: 'alice', uid: 'a11ce' };
  assert.deepEqual((await look({ there: { 'ServiceAccount alice': { ownerReferences: [owner] } } })).foreign, []);
  assert.deepEqual((await look({ there: { 'Secret database': ours } })).foreign, []);
});

test('K1: nothing is asked about what is made already', async () => {
  const objects = {
    serviceAccounts: byName([made('alice')]),
    certificates: byName([made('alice-user-ann'), made('database')]),
  };
  assert.deepEqual((await look({ objects })).asked, []);
  const begun = { trustDomain: 'alice.photos.example' };
  assert.deepEqual((await look({ objects: { certificates: objects.certificates }, status: begun })).asked, []);
});

test('a cluster without cert-manager has no Certificates in the way, and is not asked for any', async () => {
  assert.deepEqual((await look({ seesCertificates: false })).asked, ['ServiceAccount alice']);
  const missing = new KubeError('Get', { status: 404, reason: 'NotFound', missing: 'kind' });
  assert.deepEqual((await look({ error: missing })).foreign, []);
  const down = new KubeError('Get', { status: 0, reason: 'NotConnected' });
  await assert.rejects(look({ error: down }), down);
});
