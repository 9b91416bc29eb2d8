/** Fields made for one argument of one verb, where what its schema tells is not enough for a good one. */

import * as React from 'react';

import { Arguments } from '../client';
import { VerbName } from '../types';
import { RunParameters } from './parameters';

/** What such a field is given: all arguments, its own value, and what to call when that changes. */
export interface BespokeProps {
  readonly args: Arguments;
  readonly value: unknown;
  readonly onChange: (value: unknown) => void;
}

type Fields = Readonly<Record<string, React.FunctionComponent<BespokeProps>>>;

const BESPOKE: Readonly<Partial<Record<VerbName, Fields>>> = {
  run: { parameters: RunParameters },
  schedule: { parameters: RunParameters }
};

/** The field made for a verb's argument, if there is one. Pure. */
export function bespoke(verb: VerbName, argument: string): React.FunctionComponent<BespokeProps> | undefined {
  return BESPOKE[verb]?.[argument];
}
