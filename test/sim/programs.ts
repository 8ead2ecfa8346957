/**
 * The real programs on fake ports: what `main.ts` of each room puts together with sockets and files is put together here with
 * the simulated machine. Nothing of the rooms is replaced but their edges.
 */
import { sleep } from '@collective/base/clock';
import { type InodeNumber, type NodeName, ROOT_REALM } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { Admin } from '@collective/client';
import { ConnectedMember } from '@collective/client/member';
import type { SessionLink } from '@collective/client/session/session-connector';
import { CoordinatorCore } from '@collective/coordinator/core';
import { ReplicaSettler } from '@collective/coordinator/jobs/settle-replicas';
import { FileLog } from '@collective/coordinator/log/file-log';
import { AccessKeys } from '@collective/coordinator/membership/access-keys';
import { MemberData } from '@collective/coordinator/membership/member-data';
import { NodeLinks } from '@collective/coordinator/membership/node-link';
import { type NodeEvents, NodeTable } from '@collective/coordinator/membership/node-table';
import { ATTRIBUTES, DATA } from '@collective/coordinator/ops/context';
import { MemoryStore, MemoryStoreDisk } from '@collective/coordinator/store/memory-store';
import { SUBJECTS } from '@collective/coordinator/tables/tables';
import { StorageNode } from '@collective/node/storage-node';
import type { BulkConnector } from '@collective/protocol/bulk/connection';
import { CoordinatorMessage, NodeMessage } from '@collective/protocol/gen/node';
import { ClientMessage, ServerMessage } from '@collective/protocol/gen/session';
import type { Breaks } from './breaks.ts';
import type { Incarnation, Program } from './machine.ts';
import type { Endpoint, LinkKind, Network } from './network.ts';

export const TRUST_DOMAIN = 'sim.home';
export const COORDINATOR = 'coordinator';
const LOG_SEGMENT_BYTES = 64 * 1024;
const CHUNK_SEGMENT_BYTES = 10 * 1024 * 1024;
const VERSION = '0.0.0';

const FILES: LinkKind<ClientMessage, ServerMessage> = { name: 'files', up: ClientMessage, down: ServerMessage };
const MEMBERSHIP: LinkKind<NodeMessage, CoordinatorMessage> = {
  name: 'membership',
  up: NodeMessage,
  down: CoordinatorMessage,
};

export function uriOf(role: 'coordinator' | 'node' | 'client', name: string): string {
  return `spiffe://${TRUST_DOMAIN}/${role === 'coordinator' ? role : `${role}/${name}`}`;
}

export class CoordinatorProgram implements Program {
  readonly #network: Network;
  readonly #breaks: Breaks;
  readonly #view = new MemoryStoreDisk();
  readonly #onEvent: (what: string) => void;
  readonly #promisedInodesMax: number | undefined;

  constructor(options: {
    network: Network;
    breaks: Breaks;
    onEvent: (what: string) => void;
    promisedInodesMax: number | undefined;
  }) {
    this.#network = options.network;
    this.#breaks = options.breaks;
    this.#onEvent = options.onEvent;
    this.#promisedInodesMax = options.promisedInodesMax;
  }

  powerLoss(random: Random): void {
    this.#view.powerLoss(random);
  }

  async start(self: Incarnation): Promise<void> {
    const { disk, clock, random } = self;
    await disk.lock('');
    await disk.makeFolder('log');
    await disk.syncDirectory('');
    const log = await FileLog.open({ disk, clock, random, folder: 'log', segmentBytes: LOG_SEGMENT_BYTES });
    const store = new MemoryStore(this.#view, () => sleep(clock, 0.05));
    const keys = await AccessKeys.load({ disk, path: 'access-keys.json', clock, random });
    let nodes: NodeTable | undefined;
    const core = await CoordinatorCore.start({
      clock,
      log: this.#breaks.log(log),
      store,
      data: async (engine) => {
        nodes = await NodeTable.load({ clock, engine, events: NO_NODE_EVENTS });
        return new MemberData({
          clock,
          random,
          nodes,
          keys,
          makeStable: (node, chunks) => links.makeStable(node, chunks),
        });
      },
      member: { name: 'sim', trustDomain: TRUST_DOMAIN },
      version: VERSION,
      rootOwner: { uid: 0, gid: 0 },
      onFatal: (error) => self.die(error.message),
      keepAnswers: this.#breaks.keepsAnswers,
      promisedInodesMax: this.#promisedInodesMax,
    });
    if (nodes === undefined) throw new Error('The coordinator started without its nodes');
    await admitClients(core);
    const settler = new ReplicaSettler({
      engine: core.engine,
      askChunks: (node, chunks) => links.askChunks(node, chunks),
      onReverted: (file) => {
        this.#onEvent(`a block of ${JSON.stringify(file)} got back its earlier content`);
        void core.recallFromAll(file.inode as InodeNumber, ATTRIBUTES | DATA);
      },
      onFailure: () => undefined,
    });
    const links = new NodeLinks({
      scrubPeriodSeconds: () => 0,
      clock,
      epoch: core.engine.epoch,
      member: 'sim',
      nodes,
      keys,
      onReport: (node, report) => {
        settler.reported(node, report);
        core.nodeReported();
      },
      onNewerEpoch: (node) => this.#onEvent(`node ${node} has seen a newer epoch`),
      log: () => undefined,
    });
    const never = new AbortController().signal;
    this.#network.listen(self, FILES, (link, peer) => void core.serveSession(link, peer.uri));
    this.#network.listen(self, MEMBERSHIP, (link, peer) => void links.serve(link, peer.name as NodeName, never));
  }
}

const NO_NODE_EVENTS: NodeEvents = {
  diskLost: () => undefined,
  nodeCame: () => undefined,
  nodeWentAway: () => undefined,
};

/** Clients of the simulation are trusted users of the root realm. */
async function admitClients(core: CoordinatorCore): Promise<void> {
  await core.engine.run((tx) => {
    const uri = uriOf('client', 'any');
    if (tx.get(SUBJECTS, uri) !== undefined) return;
    const realms = [{ realm: ROOT_REALM, readOnly: false }];
    tx.put(SUBJECTS, { uri, admin: true, trusted: true, uid: 0, gid: 0, realms, created: tx.now }, uri);
  });
}

export class NodeProgram implements Program {
  readonly #network: Network;
  readonly #breaks: Breaks;

  constructor(network: Network, breaks: Breaks) {
    this.#network = network;
    this.#breaks = breaks;
  }

  async start(self: Incarnation): Promise<void> {
    const { disk, clock, random, name } = self;
    const node = await StorageNode.open({
      name,
      disk,
      clock,
      random,
      capacityBytes: 100_000_000,
      reserveBytes: 1_000_000,
      segmentBytes: CHUNK_SEGMENT_BYTES,
      version: VERSION,
      adaptStore: (store) => this.#breaks.chunkStore(store),
      connector: bulkConnector(this.#network, self),
      connectCoordinator: (signal) => this.#network.open(self, COORDINATOR, MEMBERSHIP, signal),
      surroundings: () => ({
        zone: '',
        addresses: [{ listener: 'internal', host: name, port: 1 }],
        bundleHash: '',
        certificateExpires: undefined,
      }),
    });
    node.failed.addEventListener('abort', () => self.die('the chunk store failed'), { once: true });
    this.#network.listenBulk(self, (connection, peer) => {
      const role = peer.uri.includes('/node/') ? 'node' : 'client';
      node.accept(connection, { uri: peer.uri, role, name: peer.name });
    });
    node.join();
  }
}

export interface ClientEvents {
  readonly onLost: () => void;
  /** A change that was lost with the power and made again ended otherwise (M4). */
  readonly onReplayDiffers: () => void;
}

export interface ClientSettings extends ClientEvents {
  readonly caches: boolean;
}

export function connectClient(
  network: Network,
  self: Endpoint,
  random: Random,
  breaks: Breaks,
  settings: ClientSettings,
): Promise<ConnectedMember> {
  return ConnectedMember.open(
    {
      clock: self.clock,
      random,
      connector: {
        address: COORDINATOR,
        open: async (signal): Promise<SessionLink> =>
          breaks.sessionLink(await network.open(self, COORDINATOR, FILES, signal)),
      },
      bulk: bulkConnector(network, self),
      admin: {} as Admin,
    },
    {
      program: self.name,
      listener: 'internal',
      caches: settings.caches,
      onEvent: (event) => {
        if (event.kind === 'session-lost') settings.onLost();
        if (event.kind === 'replay-differs') settings.onReplayDiffers();
      },
    },
  );
}

function bulkConnector(network: Network, self: Endpoint): BulkConnector {
  return { connect: (target, signal) => network.connectBulk(self, target.name, signal) };
}
