/**
 * The real programs on fake ports: what `main.ts` of each room puts together with sockets and files is put together here with
 * the simulated machine. Nothing of the rooms is replaced but their edges. The coordinator has a file of its own.
 */
import type { Random } from '@collective/base/random';
import type { Admin } from '@collective/client';
import { ConnectedMember } from '@collective/client/member';
import type { SessionLink } from '@collective/client/session/session-connector';
import type { ChunkStore } from '@collective/node/chunk-store/chunk-store';
import { StorageNode } from '@collective/node/storage-node';
import type { BulkConnector } from '@collective/protocol/bulk/connection';
import { CoordinatorMessage, NodeMessage } from '@collective/protocol/gen/node';
import { ClientMessage, ServerMessage } from '@collective/protocol/gen/session';
import type { Breaks } from './breaks.ts';
import type { Incarnation, Program } from './machine.ts';
import type { Endpoint, LinkKind, Network } from './network.ts';

export const TRUST_DOMAIN = 'sim.home';
export const COORDINATOR = 'coordinator';
const CHUNK_SEGMENT_BYTES = 10 * 1024 * 1024;
export const VERSION = '0.0.0';

export const FILES: LinkKind<ClientMessage, ServerMessage> = { name: 'files', up: ClientMessage, down: ServerMessage };
export const MEMBERSHIP: LinkKind<NodeMessage, CoordinatorMessage> = {
  name: 'membership',
  up: NodeMessage,
  down: CoordinatorMessage,
};

export function uriOf(role: 'coordinator' | 'node' | 'client', name: string): string {
  return `spiffe://${TRUST_DOMAIN}/${role === 'coordinator' ? role : `${role}/${name}`}`;
}

/** Bits rot where a node keeps chunks; what else it keeps is small and read at once. */
export function isChunkSegment(path: string): boolean {
  return path.endsWith('.seg');
}

export class NodeProgram implements Program {
  readonly #network: Network;
  readonly #breaks: Breaks;

  #store: ChunkStore | undefined;

  constructor(network: Network, breaks: Breaks) {
    this.#network = network;
    this.#breaks = breaks;
  }

  /** Of the last start that came to serve; it may have ended. */
  get store(): ChunkStore | undefined {
    return this.#store;
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
    this.#store = node.store;
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
