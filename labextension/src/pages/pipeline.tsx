/** The page of one pipeline: its steps as they hang together, how the newest run of each went, what starts it. */

import * as React from 'react';

import { Act } from '../components/act';
import { Answered, Empty, useAnswer } from '../components/answer';
import { Chip } from '../components/chip';
import { useNow } from '../components/clock';
import { Graph } from '../components/graph';
import {
  duration,
  JobButtons,
  Listed,
  Question,
  RunButton,
  ScheduleButtons,
  sorted,
  whenNext
} from '../components/job';
import { PageLink } from '../components/link';
import { usePlace } from '../components/place';
import { Table } from '../components/table';
import { Job, JobStep, PipelineCard, PipelineNode, Upcoming } from '../types';
import { ago, plain, time } from '../words';
import { PageProps } from '.';

const N_RUNS = 10;

export function PipelinePage({ names: [name] }: PageProps): JSX.Element {
  const shown = useAnswer('show', { what: name }, ['policy']);
  const jobs = useAnswer('jobs', { name, limit: N_RUNS }, ['ledger', 'jobs', 'policy']);
  return (
    <article>
      <Answered answer={jobs}>
        {rows => {
          const listed = sorted(rows);
          return (
            <>
              <Head name={name} listed={listed} />
              <Answered answer={shown}>{value => <Steps card={value as PipelineCard} listed={listed} />}</Answered>
              <Runs listed={listed} />
            </>
          );
        }}
      </Answered>
    </article>
  );
}

function Head({ name, listed }: { readonly name: string; readonly listed: Listed }): JSX.Element {
  const { actions, folder } = usePlace();
  const [newest] = listed.jobs;
  const schedule = listed.schedules.find(row => row.name === name);
  const [byHand] = listed.byHand;
  return (
    <>
      <h1>
        {plain(name, 100)} {newest && <Chip word={plain(newest.status, 20)} />}
      </h1>
      <Starts schedule={schedule} />
      {byHand?.problem && <pre className="nbm-Text nbm-mod-bad">{plain(byHand.problem, 2000)}</pre>}
      <div className="nbm-Buttons">
        <RunButton what={name} />
        <Act
          words="Schedule …"
          about={name}
          act={() => actions.propose('schedule', { target: name }, undefined, folder)}
        />
        {schedule && <ScheduleButtons row={schedule} />}
        {newest && <JobButtons job={newest} jobs={listed.jobs} steps={listed.steps} />}
      </div>
      {listed.steps
        .filter(step => step.status === 'WAITING')
        .map(step => (
          <Question key={`${step.job} ${step.step}`} step={step} />
        ))}
    </>
  );
}

function Starts({ schedule }: { readonly schedule: Upcoming | undefined }): JSX.Element {
  const now = useNow(false);
  if (!schedule) {
    return <p className="nbm-dim">Nothing starts it by itself.</p>;
  }
  return (
    <p className="nbm-dim">
      {schedule.problem ? plain(schedule.problem) : `Starts ${plain(whenNext(schedule, now), 200)}`}
      {schedule.schedule && ` · ${plain(schedule.schedule, 60)} ${plain(schedule.timezone, 40)}`}
      {schedule.next_at && !schedule.paused && ` · next at ${time(schedule.next_at)}`}
      {schedule.last && ` · last: ${plain(schedule.last, 120)}`}
    </p>
  );
}

interface StepsProps {
  readonly card: PipelineCard;
  readonly listed: Listed;
}

function Steps({ card, listed }: StepsProps): JSX.Element {
  const [selected, select] = React.useState('');
  const [newest] = listed.jobs;
  const attempts = listed.steps.filter(step => step.job === newest?.job);
  const nodes = card.nodes.map(step => ({
    name: step.name,
    does: step.does,
    state: stateOf(step.name, newest, attempts),
    isQuestion: step.kind === 'approval',
    column: step.column
  }));
  const step = card.nodes.find(each => each.name === selected);
  return (
    <section aria-label="Steps">
      <Graph
        label={`Steps of ${plain(card.name, 80)}`}
        nodes={nodes}
        edges={card.edges}
        selected={selected}
        select={select}
      />
      {step ? (
        <Chosen step={step} attempts={attempts.filter(each => stepOf(each) === step.name)} />
      ) : (
        <p className="nbm-dim">Choose a step to see what it does, and how it went.</p>
      )}
    </section>
  );
}

interface ChosenProps {
  readonly step: PipelineNode;
  readonly attempts: readonly JobStep[];
}

function Chosen({ step, attempts }: ChosenProps): JSX.Element {
  const { isSeen } = usePlace();
  const now = useNow(isSeen && attempts.some(each => each.status === 'RUNNING'));
  return (
    <div className="nbm-Step" role="region" aria-label={`Step ${plain(step.name, 80)}`}>
      <h3>{plain(step.name, 100)}</h3>
      <p className="nbm-dim">
        {plain(step.kind, 20)}: {plain(step.target, 1000)}
        {step.needs.length > 0 && ` · after ${plain(step.needs.join(', '))}`}
      </p>
      {attempts.length === 0 && <p className="nbm-dim">The newest run has not executed it.</p>}
      {attempts.map(each => (
        <div key={each.step}>
          <p>
            {plain(each.step, 100)} <Chip word={plain(each.status, 20)} /> {ago(each.began_at)}{' '}
            {duration(each, now) && `(${duration(each, now)})`} {each.attempt > 1 && `, attempt ${each.attempt}`}{' '}
            {each.run_id && <PageLink kind="run" name={each.run_id} words="Its run" />}
          </p>
          {each.message && <pre className="nbm-Text">{plain(each.message, 2000)}</pre>}
        </div>
      ))}
    </div>
  );
}

function Runs({ listed }: { readonly listed: Listed }): JSX.Element {
  const { isSeen } = usePlace();
  const now = useNow(isSeen && listed.jobs.some(job => job.status === 'RUNNING'));
  if (listed.jobs.length === 0) {
    return <Empty>It has not run yet.</Empty>;
  }
  return (
    <section aria-label="Recent runs">
      <h2>Recent runs</h2>
      <Table
        headings={['job', 'state', 'began', 'took', 'message']}
        rows={listed.jobs}
        row={job => <RunLine key={job.job} job={job} now={now} />}
      />
    </section>
  );
}

function RunLine({ job, now }: { readonly job: Job; readonly now: number }): JSX.Element {
  return (
    <tr>
      <th scope="row">
        <PageLink kind="job" name={job.job} words={job.job.slice(0, 8)} />
      </th>
      <td>
        <Chip word={plain(job.status, 20)} />
      </td>
      <td>{ago(job.began_at)}</td>
      <td>{duration(job, now)}</td>
      <td>{plain(job.message)}</td>
    </tr>
  );
}

/** The step that an attempt is of: an instance of a matrix has its values behind the name. Pure. */
export function stepOf({ step }: JobStep): string {
  return step.replace(/\[.*$/s, '');
}

const WORST_FIRST = ['RUNNING', 'FAILED', 'KILLED', 'LOST', 'STALE', 'WAITING', 'PENDING'];

/** The state of a step in the newest run, the foremost of its instances; empty where there was none. Pure. */
export function stateOf(name: string, newest: Job | undefined, attempts: readonly JobStep[]): string {
  const states = attempts.filter(each => stepOf(each) === name).map(each => each.status);
  if (states.length > 0) {
    return WORST_FIRST.find(each => states.includes(each)) ?? states[0];
  }
  if (!newest) {
    return '';
  }
  const wasToRun = newest.steps.some(each => stepOf({ step: each } as JobStep) === name);
  return wasToRun ? 'not reached' : 'unchanged';
}
