/** A verb and its arguments as the line that a person would type. Pure. */

import { Arguments } from './client';
import { Property, VerbSchema } from './types';

const COMMAND = '--'; // what stands behind it are the words of a command
const PLAIN = /^[\w@%+=:,./-]+$/; // as Python's shlex has it: ASCII alone

/** Spell a call as `%mlops VERB ...`; arguments that are as by default are left out. */
export function line(schema: VerbSchema, args: Arguments): string {
  const told = Object.entries(schema.arguments.properties).filter(([name, property]) => isTold(args[name], property));
  const at = (isMeant: (option: string | null | undefined) => boolean): string[] =>
    told
      .filter(([, { option }]) => isMeant(option))
      .flatMap(([name, { option }]) =>
        option && option !== COMMAND ? spelled(option, args[name]) : values(args[name])
      );
  const positional = at(option => !option);
  const options = at(option => Boolean(option) && option !== COMMAND);
  const command = at(option => option === COMMAND);
  const words = positional.some(isDashed) ? [...options, '--', ...positional] : [...positional, ...options];
  return ['%mlops', schema.name, ...words, ...(command.length ? [COMMAND, ...command] : [])].join(' ');
}

/** Spell a value as one word of a shell's line. */
export function quoted(value: string): string {
  return PLAIN.test(value) ? value : `'${value.replace(/'/g, `'"'"'`)}'`;
}

function isTold(value: unknown, property: Property): boolean {
  const isEmpty = value === undefined || value === null || value === '';
  return !isEmpty && JSON.stringify(value) !== JSON.stringify(property.default);
}

function spelled(option: string, value: unknown): string[] {
  if (typeof value === 'boolean') {
    return [value ? option : `${option}=false`];
  }
  const joined = option.startsWith('--') ? '=' : '';
  return values(value).flatMap(word => (isDashed(word) ? [`${option}${joined}${word}`] : [option, word]));
}

function isDashed(word: string): boolean {
  return /^'?-/.test(word);
}

function values(value: unknown): string[] {
  if (Array.isArray(value)) {
    return value.map(each => quoted(String(each)));
  }
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).map(([name, each]) => quoted(`${name}=${each}`));
  }
  return [quoted(String(value))];
}
