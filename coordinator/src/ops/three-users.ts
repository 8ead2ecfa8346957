/** For tests of rights: a member with three users of different standing. */
import { InodeType } from '@collective/protocol/gen/session';
import { ROOT } from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from '../session/session-harness.ts';

export interface Members {
  readonly world: SessionWorld;
  readonly root: ScriptedClient;
  readonly bob: ScriptedClient;
  readonly eve: ScriptedClient;
  [Symbol.asyncDispose](): Promise<void>;
}

/** root; bob (1000, also in group 2000) and eve (1001). The root directory is open to all. */
export async function members(): Promise<Members> {
  const world = await SessionWorld.start();
  await world.subject('bob', { uid: 1000, gid: 1000 });
  await world.subject('eve', { trusted: false, uid: 1001, gid: 1001 });
  const root = await world.client();
  await root.set(ROOT, { mode: 0o777 });
  const bob = await world.client({ user: 'bob', credential: { uid: 1000, gid: 1000, groups: [2000] } });
  const eve = await world.client({ user: 'eve' });
  return { world, root, bob, eve, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

export const symlink = (client: ScriptedClient, parent: number, name: string, target: string | Buffer) =>
  client.make(parent, name, { type: InodeType.SYMLINK, linkTarget: Buffer.from(target) });

export const page = (client: ScriptedClient, inode: number, after: number, limit: number, withAttributes = false) =>
  client.call({ $case: 'readDirectory', value: { inode, after, limit, withAttributes } }, 'directory');
