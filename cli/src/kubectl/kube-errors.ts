/** What an apiserver refuses, and why it cannot be reached, in our words: the code decides the exit code, and says what to do. */
import { CollectiveError, type ErrorCode } from '@collective/base/errors';

export interface Refusal {
  readonly status: number;
  readonly reason?: string;
  readonly message?: string;
}

const CODES: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid_argument',
  401: 'unauthenticated',
  403: 'permission_denied',
  404: 'not_found',
  409: 'busy',
  410: 'unavailable',
  422: 'invalid_argument',
  429: 'unavailable',
};

/** `what`: "List the Members in photos". */
export function refusalError(what: string, { status, reason, message }: Refusal): CollectiveError {
  const isMissingKind =
    status === 404 && /could not find the requested resource|^404 page not found/.test(message ?? '');
  const code = CODES[status] ?? (status >= 500 ? 'unavailable' : 'internal');
  const why = isMissingKind ? 'the cluster does not know this kind' : (message ?? reason ?? `HTTP ${status}`);
  return new CollectiveError(code, `${what}: ${why}`, {
    details: { status, ...(isMissingKind ? { unknownKind: what } : {}) },
    todo: isMissingKind
      ? "The operator is not installed in this cluster ('helm install'), or --context names another cluster."
      : TODOS[status],
  });
}

const TODOS: Readonly<Record<number, string>> = {
  401: "The cluster does not accept these credentials: log in again, and see whether 'kubectl get pods' works.",
  403: "Ask who administers the cluster for this right; 'kubectl auth can-i --list' shows those that you have.",
  404: 'Check name, --namespace and --context.',
  409: 'Somebody else changed it at the same moment: try again.',
  429: 'The cluster has too much to do: try again in a moment.',
};

export function unreachableError(what: string, server: string, cause: unknown): CollectiveError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  if (/^(ERR_TLS|CERT_|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO)/.test(code)) {
    return new CollectiveError(
      'unauthenticated',
      `${what}: the certificate of the apiserver at ${server} is not accepted`,
      {
        cause,
        todo: "The kubeconfig names another certificate-authority, or --context another cluster: see whether 'kubectl get pods' works.",
      },
    );
  }
  return new CollectiveError('unavailable', `${what}: no way to the apiserver at ${server}`, {
    cause,
    todo: "See whether 'kubectl cluster-info' works; --context and --kubeconfig choose another cluster.",
  });
}
