/** An address as people and gRPC write it: an IPv6 address stands in brackets, or its end would be read as the port. */
export function formatHostPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}
