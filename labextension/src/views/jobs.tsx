/** Jobs as they run, questions that wait for a person, and what runs by itself. */

import { Button } from '@jupyterlab/ui-components';
import { PathExt } from '@jupyterlab/coreutils';
import * as React from 'react';

import { Arguments } from '../client';
import { Act } from '../components/act';
import { Answered, Empty, useAnswer } from '../components/answer';
import { Chip, toneOf } from '../components/chip';
import { useNow } from '../components/clock';
import {
  duration,
  JobButtons,
  Listed,
  Question,
  RunButton,
  ScheduleButtons,
  sorted,
  urgent,
  whenNext,
  whereabouts
} from '../components/job';
import { PageLink } from '../components/link';
import { usePlace } from '../components/place';
import { DeclaredPipeline, FiringRow, Job, Upcoming } from '../types';
import { ago, plain, time } from '../words';

const N_FIRINGS = 5;

export function JobsView(): JSX.Element {
  const answer = useAnswer('jobs', {}, ['ledger', 'jobs', 'policy']);
  return (
    <>
      <Tools />
      <Answered answer={answer}>{rows => <Everything listed={sorted(rows)} />}</Answered>
    </>
  );
}

function Tools(): JSX.Element {
  const { actions, folder } = usePlace();
  const what = useNotebook();
  const propose = (verb: 'run' | 'schedule', args: Arguments): void =>
    void actions.propose(verb, args, undefined, folder);
  return (
    <div className="nbm-Tools">
      <Button className="jp-mod-styled" onClick={() => propose('run', { ...(what && { what }), detach: true })}>
        Run …
      </Button>
      <Button className="jp-mod-styled" onClick={() => propose('schedule', what ? { target: what } : {})}>
        Schedule …
      </Button>
    </div>
  );
}

/** The notebook in front of the person, as verbs name it from the view's folder; empty without one. */
function useNotebook(): string {
  const { model, folder } = usePlace();
  return model.notebook ? PathExt.relative(folder, model.notebook) : '';
}

function Everything({ listed }: { readonly listed: Listed }): JSX.Element {
  const { actions, folder, isSeen } = usePlace();
  const { jobs, steps, schedules, byHand, firings } = listed;
  const now = useNow(isSeen && jobs.some(job => job.status === 'RUNNING'));
  const notebook = useNotebook();
  const asked = steps.filter(step => step.status === 'WAITING');
  return (
    <>
      {asked.length > 0 && (
        <Section label="Waiting for an answer">
          {asked.map(step => (
            <li key={`${step.job} ${step.step}`} className="nbm-Job">
              <PageLink kind="job" name={step.job} words={`${step.pipeline} / ${step.step}`} />
              <Question step={step} />
            </li>
          ))}
        </Section>
      )}
      {jobs.length === 0 ? (
        <Empty
          step={() =>
            void actions.propose('run', { ...(notebook && { what: notebook }), detach: true }, undefined, folder)
          }
          label={notebook ? 'Run this notebook headless' : 'Run a notebook headless'}
        >
          No jobs yet. A notebook that runs headless is one: with checked parameters, a log, and an end that is true.
        </Empty>
      ) : (
        <Section label="Jobs, those that run first">
          {urgent(jobs).map(job => (
            <JobRow key={job.job} job={job} listed={listed} now={now} />
          ))}
        </Section>
      )}
      {schedules.length > 0 && (
        <Section label="Runs by itself" isTold>
          {schedules.map(row => (
            <ScheduleRow key={row.name} row={row} now={now} />
          ))}
        </Section>
      )}
      {byHand.length > 0 && (
        <Section label="Pipelines without a schedule" isTold>
          {byHand.map(row => (
            <ByHandRow key={row.name} row={row} />
          ))}
        </Section>
      )}
      {firings.length > 0 && (
        <Section label="Fired last" isTold>
          {firings.slice(0, N_FIRINGS).map(row => (
            <FiredRow key={`${row.schedule} ${row.due_at} ${row.cause}`} row={row} />
          ))}
        </Section>
      )}
    </>
  );
}

interface SectionProps {
  readonly label: string;
  readonly isTold?: boolean;
  readonly children: React.ReactNode;
}

function Section({ label, isTold = false, children }: SectionProps): JSX.Element {
  return (
    <>
      {isTold && <h3 className="nbm-Jobs-head">{label}</h3>}
      <ul className="nbm-Jobs" aria-label={label}>
        {children}
      </ul>
    </>
  );
}

interface JobRowProps {
  readonly job: Job;
  readonly listed: Listed;
  readonly now: number;
}

function JobRow({ job, listed, now }: JobRowProps): JSX.Element {
  const { actions, folder } = usePlace();
  const isRunning = job.status === 'RUNNING';
  const where = isRunning ? whereabouts(job, listed.steps) : '';
  const took = duration(job, now);
  return (
    <li className="nbm-Job">
      <div className="nbm-Row-line">
        <PageLink kind="job" name={job.job} words={job.name} />
        <Chip word={plain(job.status, 20)} />
      </div>
      {where && <div className="nbm-dim">at {plain(where, 120)}</div>}
      {!isRunning && job.message && (
        <div className={toneOf(job.status) === 'bad' ? 'nbm-Job-cause' : 'nbm-dim'}>{plain(job.message)}</div>
      )}
      <div className="nbm-Job-acts">
        <span className="nbm-dim">{isRunning ? `for ${took}` : `${ago(job.began_at)}${took && `, took ${took}`}`}</span>
        <JobButtons job={job} jobs={listed.jobs} steps={listed.steps} />
        <Act words="Logs" about={job.name} act={() => actions.openPage({ kind: 'job', names: [job.job] }, folder)} />
      </div>
    </li>
  );
}

function ScheduleRow({ row, now }: { readonly row: Upcoming; readonly now: number }): JSX.Element {
  const isNotebook = row.target.endsWith('.ipynb');
  return (
    <li className="nbm-Job">
      <div className="nbm-Row-line">
        {isNotebook ? <span>{plain(row.name, 80)}</span> : <PageLink kind="pipeline" name={row.name} />}
        {(row.paused || row.problem) && <Chip word={row.problem ? 'broken' : 'paused'} />}
      </div>
      {row.schedule && (
        <div className="nbm-dim">
          {plain(row.schedule, 60)} {plain(row.timezone, 40)}
        </div>
      )}
      {row.problem && <div className="nbm-Job-cause">{plain(row.problem)}</div>}
      {row.last && <div className="nbm-dim">last: {plain(row.last, 120)}</div>}
      <div className="nbm-Job-acts">
        <span className="nbm-dim" title={row.next_at ? time(row.next_at) : undefined}>
          {plain(whenNext(row, now), 160)}
        </span>
        <RunButton what={row.target} />
        <ScheduleButtons row={row} />
      </div>
    </li>
  );
}

function ByHandRow({ row }: { readonly row: DeclaredPipeline }): JSX.Element {
  return (
    <li className="nbm-Job">
      <div className="nbm-Row-line">
        <PageLink kind="pipeline" name={row.name} />
        {row.problem && <Chip word="broken" />}
      </div>
      {row.problem ? (
        <div className="nbm-Job-cause">{plain(row.problem, 200)}</div>
      ) : (
        <div className="nbm-Job-acts">
          <span className="nbm-dim">{plain(row.steps.join(', '), 200)}</span>
          <RunButton what={row.name} />
        </div>
      )}
    </li>
  );
}

function FiredRow({ row }: { readonly row: FiringRow }): JSX.Element {
  return (
    <li className="nbm-Job">
      <div className="nbm-Row-line">
        {row.job ? <PageLink kind="job" name={row.job} words={row.schedule} /> : <span>{plain(row.schedule, 80)}</span>}
        <Chip word={plain(row.state, 20)} />
      </div>
      <div className="nbm-dim">
        {plain(row.cause, 60)}, due {ago(row.due_at)}
      </div>
      {row.reason && <div className="nbm-Job-cause">{plain(row.reason)}</div>}
    </li>
  );
}
