/** Who reads our output may stop early (`| head`): that is no error. */
export function isPipeClosed(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPIPE';
}
