/**
 * Does what a plan of requests says (T5): CertificateRequests are made, the coordinator gets its answers, and what is answered is
 * removed. What fails comes again with the next look; people hear of it by events.
 */
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { Admin } from '@collective/client';
import type { PlannedEvent } from '../member/plan-types.ts';
import type { Applier } from '../runtime/applier.ts';
import type { CheckedKeptRequest } from './checked-requests.ts';
import type { RequestAnswer, RequestsPlan } from './plan-requests.ts';

export interface ServeRequestsParts {
  readonly applier: Pick<Applier, 'apply' | 'remove'>;
  readonly admin: Pick<Admin, 'certificateRequests'> | undefined;
  readonly log: Log;
}

export async function serveRequests(
  { applier, admin, log }: ServeRequestsParts,
  { plan, kept }: { readonly plan: RequestsPlan; readonly kept: readonly CheckedKeptRequest[] },
  signal: AbortSignal,
): Promise<readonly PlannedEvent[]> {
  const { refused } = await applier.apply(plan.objects, signal);
  const events: PlannedEvent[] = refused.map(({ intent, error }) => ({
    type: 'Warning',
    reason: 'RequestNotMade',
    message: `The CertificateRequest ${intent.object.metadata.name} cannot be made, and whoever enrols waits: ${error.message}`,
  }));
  for (const answer of admin === undefined ? [] : plan.answers) {
    const subject = kept.find(({ id }) => id === answer.id)?.uri ?? '';
    if (await give(answer, subject, { admin: admin as NonNullable<typeof admin>, log }, signal))
      events.push(eventOf(answer, subject));
  }
  await applier.remove(plan.removals, signal);
  return [...plan.events, ...events];
}

/** False: it comes again with the next look, or was answered before. */
async function give(
  answer: RequestAnswer,
  subject: string,
  { admin, log }: { readonly admin: Pick<Admin, 'certificateRequests'>; readonly log: Log },
  signal: AbortSignal,
): Promise<boolean> {
  const { id } = answer;
  try {
    const wasWaiting = await admin.certificateRequests.answer(
      id,
      'refused' in answer ? { refused: answer.refused } : { certificatePem: answer.certificatePem },
      { signal },
    );
    log.info(
      { id, subject, refused: 'refused' in answer ? answer.refused : undefined, wasWaiting },
      'request answered',
    );
    return wasWaiting;
  } catch (thrown) {
    signal.throwIfAborted();
    if (!(thrown instanceof CollectiveError)) throw thrown;
    log.warn({ id, subject, err: thrown }, 'request not answered');
    return false;
  }
}

function eventOf(answer: RequestAnswer, subject: string): PlannedEvent {
  return 'refused' in answer
    ? { type: 'Warning', reason: 'RequestRefused', message: `No certificate for ${subject}: ${answer.refused}` }
    : { type: 'Normal', reason: 'CertificateGiven', message: `A certificate was given to ${subject}` };
}
