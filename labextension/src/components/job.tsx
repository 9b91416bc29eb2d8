/** What a job, a step and a schedule look like, and what a person may do with each; used by the sidebar and the pages. */

import * as React from 'react';

import { DeclaredPipeline, FiringRow, Job, JobStep, Results, Upcoming } from '../types';
import { ahead, lasted, plain } from '../words';
import { Act } from './act';
import { usePlace } from './place';

/** What `jobs` lists, by kind. */
export interface Listed {
  readonly jobs: readonly Job[];
  readonly steps: readonly JobStep[];
  readonly schedules: readonly Upcoming[];
  readonly byHand: readonly DeclaredPipeline[];
  readonly firings: readonly FiringRow[];
}

/** Sort the rows of `jobs` by their kind. Pure. */
export function sorted(rows: Results['jobs']): Listed {
  const of = <T,>(kind: string): readonly T[] => rows.filter(row => row.kind === kind) as unknown as readonly T[];
  return {
    jobs: of('job'),
    steps: of('step'),
    schedules: of('schedule'),
    byHand: of('pipeline'),
    firings: of('firing')
  };
}

/** Put jobs that run first, then those that wait, then the others; each in the order in which they came. Pure. */
export function urgent(jobs: readonly Job[]): Job[] {
  const place = (job: Job): number => ['RUNNING', 'WAITING'].indexOf(job.status) + 1 || 3;
  return [...jobs].sort((a, b) => place(a) - place(b));
}

/** Whether a job may be taken up: it failed, or its questions are answered, and no other job has taken it up. Pure. */
export function mayResume(job: Job, jobs: readonly Job[], steps: readonly JobStep[] = []): boolean {
  const own = steps.filter(step => step.job === job.job);
  const isAnswered = job.status === 'WAITING' && own.length > 0 && own.every(step => step.status !== 'WAITING');
  const isOpen = isAnswered || ['FAILED', 'KILLED', 'LOST'].includes(job.status);
  return isOpen && !jobs.some(each => each.resumed === job.job);
}

/** How long something has run, while it runs; else how long it took. Pure. */
export function duration(row: { status: string; began_at: string | null; duration_s: unknown }, now: number): string {
  if (row.status === 'RUNNING' && row.began_at) {
    return lasted(Math.max(0, Math.round((now - Date.parse(row.began_at)) / 1000)));
  }
  return typeof row.duration_s === 'number' && row.duration_s > 0 ? lasted(row.duration_s) : '';
}

/** Where a job is, or where it failed: its cell, or the steps that run. Pure. */
export function whereabouts(job: Job, steps: readonly JobStep[]): string {
  const running = steps.filter(step => step.job === job.job && step.status === 'RUNNING').map(step => step.step);
  return job.cell || running.join(', ');
}

/** Word when something runs by itself. Pure. */
export function whenNext({ paused, problem, next_at, triggers }: Upcoming, now: number): string {
  if (problem || paused) {
    return problem ? 'cannot run' : 'paused';
  }
  const clock = next_at ? [ahead(next_at, now)] : [];
  return [...clock, ...triggers.map(each => `on ${each}`)].join(' and ');
}

interface JobButtonsProps {
  readonly job: Job;
  /** The others, one of which may have taken it up. */
  readonly jobs: readonly Job[];
  readonly steps: readonly JobStep[];
}

/** What may be done with a job as it is. */
export function JobButtons({ job, jobs, steps }: JobButtonsProps): JSX.Element | null {
  const { actions, folder } = usePlace();
  const name = plain(job.name, 60);
  if (job.status === 'RUNNING') {
    return (
      <Act words="Cancel …" about={name} act={() => actions.propose('cancel', { job: job.job }, undefined, folder)} />
    );
  }
  if (mayResume(job, jobs, steps)) {
    return (
      <Act
        words="Resume …"
        about={name}
        act={() => actions.propose('resume', { job: job.job, detach: true }, undefined, folder)}
      />
    );
  }
  return null;
}

/** The question of a step that waits for a person, and the two answers. */
export function Question({ step }: { readonly step: JobStep }): JSX.Element {
  const { actions, folder } = usePlace();
  const about = `${step.pipeline}: ${step.step}`;
  const args = { job: step.job, step: step.step, reason: '' };
  const evidence = <blockquote className="nbm-Question">{plain(step.message, 1000)}</blockquote>;
  return (
    <div className="nbm-Question" role="group" aria-label={`${plain(about)} waits for an answer`}>
      <p>{plain(step.message, 1000) || `${plain(step.step)} waits for an answer.`}</p>
      <Act words="Approve …" about={about} act={() => actions.propose('approve', args, evidence, folder)} />
      <Act words="Reject …" about={about} act={() => actions.propose('reject', args, evidence, folder)} />
    </div>
  );
}

/** What may be done with something that runs by itself. */
export function ScheduleButtons({ row }: { readonly row: Upcoming }): JSX.Element {
  const { actions, folder } = usePlace();
  const verb = row.paused ? 'unpause' : 'pause';
  const words = row.paused ? 'Unpause …' : 'Pause …';
  return (
    <Act words={words} about={row.name} act={() => actions.propose(verb, { target: row.name }, undefined, folder)} />
  );
}

/** Propose to run a pipeline or a notebook by its name. */
export function RunButton({ what }: { readonly what: string }): JSX.Element {
  const { actions, folder } = usePlace();
  return (
    <Act words="Run …" about={what} act={() => actions.propose('run', { what, detach: true }, undefined, folder)} />
  );
}
