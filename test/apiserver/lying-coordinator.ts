/**
 * A coordinator in the hands of somebody else (T5): it has the coordinator's own identity and answers as the real one does, but what it
 * says of requests for certificates is what the test tells it to say, and so is how many blocks were lost (D3), which takes
 * a loss of power otherwise. What it is answered is kept.
 */

import { assert } from '@collective/base/assert';
import { SystemClock } from '@collective/base/system-clock';
import {
  AdminClient,
  AdminService,
  AnswerCertificateRequestRequest,
  AnsweredCertificateRequest,
  CertificateRequests,
  type KeptCertificateRequest,
  Status,
} from '@collective/protocol/gen/admin';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';

const HELD_MS = 500;

export interface LyingCoordinatorOptions {
  /** The coordinator's own identity. */
  readonly own: Trust;
  /** Of the operator, to ask the real one with. */
  readonly operator: Trust;
  readonly expected: ExpectedServer;
  /** host:port of the real one. */
  readonly behind: string;
}

export class LyingCoordinator implements AsyncDisposable {
  readonly answers: AnswerCertificateRequestRequest[] = [];
  readonly #server = new Server();
  readonly #behind: AdminClient;
  readonly #claims = new Map<string, KeptCertificateRequest>();
  port = 0;
  /** Blocks that were lost, and that nobody has settled. */
  lost = 0;

  static async start(options: LyingCoordinatorOptions): Promise<LyingCoordinator> {
    const liar = new LyingCoordinator(options);
    const { certificatePem, keyPem, bundlePem } = options.own.current;
    const credentials = ServerCredentials.createSsl(
      Buffer.from(bundlePem),
      [{ private_key: Buffer.from(keyPem), cert_chain: Buffer.from(certificatePem) }],
      true,
    );
    liar.port = await new Promise<number>((resolve, reject) =>
      liar.#server.bindAsync('127.0.0.1:0', credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      ),
    );
    return liar;
  }

  private constructor({ operator, expected, behind }: LyingCoordinatorOptions) {
    const credentials = channelCredentials(operator, expected, new SystemClock());
    this.#behind = new AdminClient(behind, credentials, dialOptions(expected));
    const definitions: Record<string, ServiceDefinition[string]> = {};
    const handlers: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(AdminService)) {
      if (method.responseStream) continue;
      const raw = {
        requestDeserialize: same,
        requestSerialize: same,
        responseDeserialize: same,
        responseSerialize: same,
      };
      definitions[name] = { ...method, ...raw };
      handlers[name] = this.#handler(name, method.path);
    }
    this.#server.addService(definitions, handlers);
  }

  /** From now on it says that it has approved this. */
  claim(request: KeptCertificateRequest): void {
    this.#claims.set(request.id, request);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    this.#behind.close();
  }

  #handler(name: string, path: string): handleUnaryCall<Buffer, Buffer> {
    if (name === 'listCertificateRequests')
      return (_call, callback) => {
        const requests = [...this.#claims.values()];
        const told = CertificateRequests.encode({ requests, mark: `lie ${requests.length}` }).finish();
        setTimeout(() => callback(null, Buffer.from(told)), HELD_MS);
      };
    if (name === 'answerCertificateRequest')
      return ({ request }, callback) => {
        const answer = AnswerCertificateRequestRequest.decode(request);
        this.answers.push(answer);
        const wasWaiting = this.#claims.delete(answer.id);
        callback(null, Buffer.from(AnsweredCertificateRequest.encode({ wasWaiting }).finish()));
      };
    return ({ request }, callback) => {
      this.#behind.makeUnaryRequest(path, same, same, request, (error, answer = Buffer.of()) =>
        error === null ? callback(null, name === 'getStatus' ? this.#withLosses(answer) : answer) : callback(error),
      );
    };
  }

  #withLosses(answer: Buffer): Buffer {
    const { replication, ...status } = Status.decode(answer);
    assert(replication !== undefined, 'a status says how replicas are');
    return Buffer.from(Status.encode({ ...status, replication: { ...replication, lost: this.lost } }).finish());
  }
}

function same(bytes: Buffer): Buffer {
  return bytes;
}
