/** What may be asked for at attach beyond version 1 of the wire, by the names that go over it. */

/** M10: the session gives unused room back when it is asked. */
export const SPACE_RECALL = 'space-recall';
