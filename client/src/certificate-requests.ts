/** Requests for certificates that a coordinator keeps, over the wire. */
import type {
  AdminClient,
  AnsweredCertificateRequest as WireAnswered,
  CertificateRequests as WireRequests,
} from '@collective/protocol/gen/admin';
import type { Begin, Done } from './admin.ts';
import type { CallOptions } from './api.ts';
import type {
  CertificateRequestAnswer,
  CertificateRequests,
  CertificateRequestsQuery,
  KeptCertificateRequests,
} from './certificate-requests-api.ts';

/** For the way there and back, beside the time that the other side waits. */
const CALL_WITHIN_MS = 10_000;

type Call = <T>(what: string, options: CallOptions & { withinMs?: number }, begin: Begin<T>) => Promise<T>;

export class MemberCertificateRequests implements CertificateRequests {
  readonly #client: () => AdminClient;
  readonly #call: Call;

  constructor(client: () => AdminClient, call: Call) {
    this.#client = client;
    this.#call = call;
  }

  async list(
    { after = '', waitSeconds = 0 }: CertificateRequestsQuery = {},
    options: CallOptions = {},
  ): Promise<KeptCertificateRequests> {
    const within = waitSeconds === 0 ? {} : { withinMs: waitSeconds * 1_000 + CALL_WITHIN_MS };
    const what = 'List requests for certificates';
    return await this.#call(what, { ...options, ...within }, (done: Done<WireRequests>) =>
      this.#client().listCertificateRequests({ after, waitSeconds }, done),
    );
  }

  async answer(id: string, answer: CertificateRequestAnswer, options: CallOptions = {}): Promise<boolean> {
    const given =
      'refused' in answer
        ? ({ $case: 'refused', value: answer.refused } as const)
        : ({ $case: 'certificatePem', value: answer.certificatePem } as const);
    const { wasWaiting } = await this.#call(
      `Answer the request ${id} for a certificate`,
      options,
      (done: Done<WireAnswered>) => this.#client().answerCertificateRequest({ id, answer: given }, done),
    );
    return wasWaiting;
  }
}
