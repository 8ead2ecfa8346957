// Whether published images could be pulled here: asked once, with little patience, because a machine without a
// registry is an ordinary one.

const REGISTRY = 'https://registry-1.docker.io/v2/';
const ANSWER_WITHIN_MS = 3_000;

/** LAB_REGISTRY=yes or =no says it without asking. */
export async function reachesRegistry(registry = REGISTRY): Promise<boolean> {
  const said = process.env.LAB_REGISTRY;
  if (said === 'yes' || said === 'no') return said === 'yes';
  try {
    const { status } = await fetch(registry, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    return status === 200 || status === 401;
  } catch (thrown) {
    if (thrown instanceof TypeError || (thrown instanceof DOMException && thrown.name === 'TimeoutError')) return false;
    throw thrown;
  }
}
