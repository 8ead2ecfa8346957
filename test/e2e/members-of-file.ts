/**
 * The members that one test file works with, as a person would make them: the operator of this tree is installed, a Collective and
 * the Members are applied, and all of them are ready before the first test of the file begins.
 */
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { clusterOfThisFile, type TestCluster } from './cluster.ts';
import { ClusterMember, collectiveObject, type MemberWish } from './cluster-member.ts';
import { installOperator } from './installed-operator.ts';

export interface FileMembers {
  readonly cluster: TestCluster;
  /** In the order in which they were wished for. */
  readonly members: readonly ClusterMember[];
}

/** To be called once at the head of a test file, instead of `clusterOfThisFile`. */
export function membersOfThisFile(namespace: string, wishes: readonly MemberWish[]): FileMembers {
  const members: ClusterMember[] = [];
  const cluster = clusterOfThisFile({
    namespace,
    prepare: async (ready) => {
      await installOperator();
      await ready.apply(collectiveObject(ready));
      for (const member of members) await member.apply();
      for (const member of members) await member.whenReady();
    },
  });
  members.push(...wishes.map((wish) => new ClusterMember(cluster, wish)));
  after(async () => {
    for (const member of members) await member[Symbol.asyncDispose]();
  });
  return { cluster, members };
}

/** One member, alice. */
export function aliceOfThisFile(
  namespace: string,
  wish: Omit<MemberWish, 'name'> = {},
): { readonly cluster: TestCluster; readonly alice: ClusterMember } {
  const { cluster, members } = membersOfThisFile(namespace, [{ name: 'alice', ...wish }]);
  const [alice] = members;
  assert.ok(alice !== undefined);
  return { cluster, alice };
}
