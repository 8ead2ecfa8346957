/** Finds out what a doctor looks at. Whatever cannot be found out is a fact too: nothing here fails because the member does. */
import { type Clock, wallMs } from '@collective/base/clock';
import { errorChain, toCollectiveError } from '@collective/base/errors';
import type { Admin, MemberStatus, NodeStatus, ResolvedContext } from '@collective/client';
import { readCertificateFacts } from '../output/certificate-view.ts';
import { VERSION } from '../version.ts';
import type { Facts, NodeProbe } from './examine.ts';

const PROBE_WITHIN_MS = 5_000;
/** A member of ten thousand nodes is not dialled as a whole. */
const PROBES_MAX = 200;

export interface GatherParts {
  readonly clock: Clock;
  readonly context: ResolvedContext;
  readonly admin: Admin;
  readonly signal: AbortSignal;
}

export async function gatherFacts({ clock, context, admin, signal }: GatherParts): Promise<Facts> {
  const certificate = await readCertificateFacts(context.credentials, wallMs(clock)).then(
    ({ state, leftMs, chain = 'not checked' }) => ({ state, leftMs, chain }),
    (thrown: unknown) => ({ error: errorChain(thrown).join(': ') }),
  );
  const beganMs = clock.bootMs();
  const status = await admin.status({ signal }).catch((thrown: unknown) => {
    signal.throwIfAborted();
    const error = toCollectiveError(thrown, 'Ask for the status');
    return { error: errorChain(error).join(': '), code: error.code };
  });
  const nowMs = wallMs(clock);
  const statusTookMs = Math.round(clock.bootMs() - beganMs);
  const facts = {
    nowMs,
    program: VERSION,
    context: { name: context.name, coordinator: context.coordinator },
    certificate,
    status,
    statusTookMs,
  };
  if ('error' in status) return { ...facts, probes: [], maintenance: undefined, lastBackupMs: undefined };
  const [probes, maintenance, lastBackupMs] = await Promise.all([
    probeNodes(status, context, clock, signal),
    ifAllowed(admin.maintenance({ signal }), signal),
    lastBackup(admin, signal),
  ]);
  return { ...facts, probes, maintenance, lastBackupMs };
}

async function lastBackup(admin: Admin, signal: AbortSignal): Promise<number | undefined> {
  const page = await ifAllowed(admin.events({ kind: 'backup-made', limit: 1 }, { signal }), signal);
  const seconds = page?.events[0]?.time?.seconds;
  return seconds === undefined ? undefined : seconds * 1000;
}

/** Undefined for who may not ask, and for a coordinator that is older than the question. */
async function ifAllowed<T>(asked: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  try {
    return await asked;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

async function probeNodes(
  status: MemberStatus,
  context: ResolvedContext,
  clock: Clock,
  signal: AbortSignal,
): Promise<NodeProbe[]> {
  const [{ TlsBulkConnector }, { BulkExchange }, { TrustFiles }] = await Promise.all([
    import('@collective/protocol/bulk/tls-connector'),
    import('@collective/protocol/bulk/exchange'),
    import('@collective/protocol/tls/trust-files'),
  ]);
  using trust = await TrustFiles.load(context.credentials, { clock });
  const connector = new TlsBulkConnector({ trust, clock, connectWithinMs: PROBE_WITHIN_MS });
  const probe = async (node: NodeStatus): Promise<NodeProbe> => {
    const beganMs = clock.bootMs();
    const took = (): number => Math.round(clock.bootMs() - beganMs);
    const address = node.addresses.find(({ listener }) => listener === context.listener) ?? node.addresses[0];
    if (address === undefined) return { node: node.name, error: 'it has told no address', tookMs: 0 };
    try {
      const connection = await connector.connect({ name: node.name, host: address.host, port: address.port }, signal);
      const options = { clock, program: `collective/${VERSION} doctor`, progressWithinMs: PROBE_WITHIN_MS };
      (await BulkExchange.open(connection, options, signal)).close();
      return { node: node.name, error: undefined, tookMs: took() };
    } catch (thrown) {
      signal.throwIfAborted();
      return { node: node.name, error: errorChain(thrown).join(': '), tookMs: took() };
    }
  };
  const there = status.nodes.filter(({ state }) => state !== 'away').slice(0, PROBES_MAX);
  return await Promise.all(there.map(probe));
}
