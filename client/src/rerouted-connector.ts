/** Dials nodes where somebody says that they are reached from here, and asks anew each time: a forwarded port may have moved. */
import type { BulkConnection, BulkConnector, BulkTarget } from '@collective/protocol/bulk/connection';
import type { ReachNode } from './api.ts';

export class ReroutedConnector implements BulkConnector {
  readonly #connector: BulkConnector;
  readonly #reach: ReachNode;

  constructor(connector: BulkConnector, reach: ReachNode) {
    this.#connector = connector;
    this.#reach = reach;
  }

  async connect(target: BulkTarget, signal: AbortSignal): Promise<BulkConnection> {
    const { host, port } = await this.#reach(target, signal);
    return await this.#connector.connect({ name: target.name, host, port }, signal);
  }
}
