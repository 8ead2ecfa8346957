/** For tests only: the admin calls of a scratch member, where nothing behind them is under test. */
import { CollectiveError } from '@collective/base/errors';
import {
  GarbageCollection,
  GarbagePage,
  GarbageStatus,
  OrphanPage,
  RebalanceStatus,
  Status,
} from '@collective/protocol/gen/admin';
import { MAINTENANCE_DEFAULTS } from '../jobs/maintenance.ts';
import { ALICE, type ScratchMember } from '../membership/scratch-member.ts';
import { SubjectAdmin } from '../membership/subject-admin.ts';
import { type AdminParts, AdminService } from './admin-service.ts';
import { TrashService } from './trash-service.ts';

export function scratchAdmin(member: ScratchMember, parts: Partial<AdminParts> = {}): AdminService {
  return new AdminService({
    ...member,
    status: async () => Status.fromPartial({ member: 'alice' }),
    createRealm: () => Promise.reject(new Error('Create a realm: this member makes none')),
    dissolveRealm: () => Promise.reject(new CollectiveError('not_found', 'Dissolve a realm: this member has none')),
    setRealm: () => Promise.reject(new CollectiveError('not_found', 'Change a realm: this member has none')),
    listRealms: async () => [],
    subjects: new SubjectAdmin({
      engine: member.engine,
      trustDomain: ALICE,
      events: { record: () => undefined },
      rightsChanged: () => undefined,
      endSessionsOf: async () => 0,
    }),
    events: { page: async () => ({ events: [], end: true }), record: () => undefined },
    maintenance: { current: MAINTENANCE_DEFAULTS, change: async () => MAINTENANCE_DEFAULTS },
    duties: { set: noNode, holding: noNode, roughHolding: noNode, remove: noNode, scrub: noNode },
    rebalance: {
      status: () => RebalanceStatus.fromPartial({}),
      begin: () => RebalanceStatus.fromPartial({}),
      plan: async () => RebalanceStatus.fromPartial({}),
    },
    garbage: {
      status: async () => GarbageStatus.fromPartial({}),
      list: async () => GarbagePage.fromPartial({}),
      collect: () => GarbageCollection.fromPartial({}),
      orphans: async () => OrphanPage.fromPartial({}),
    },
    requests: { list: async () => ({ requests: [], mark: '' }), answer: async () => false },
    createBackup: async function* () {
      yield Buffer.from('backup');
    },
    ...parts,
  });
}

/** An empty trash: nothing in it can be changed. */
export function scratchTrash({ engine }: ScratchMember): TrashService {
  return new TrashService({
    engine,
    shared: { sharesRightsWith: () => undefined },
    change: () => Promise.reject(new CollectiveError('not_found', 'Change the trash: it is empty')),
  });
}
const noNode = (): Promise<never> => Promise.reject(new CollectiveError('not_found', 'Find a node: there is none'));
