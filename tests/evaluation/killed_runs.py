"""A script: a process that unlearns is killed at random moments, and nothing is lost.

It prints what was found, as JSON. Arguments: a folder, the number of kills, a seed.
"""

import json
import os
import pickle
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from skunlearn import FineTune
from skunlearn.evaluation import RequestLog
from tests.networks import make_net

KEY = bytes(range(32))


def rows(seed, n):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


X, Y = rows(0, 120)
X_UNSEEN, Y_UNSEEN = rows(1, 40)


def save(folder, unlearner):
    """Write the network as a whole."""
    temporary = folder / "model.tmp"
    temporary.write_bytes(pickle.dumps(unlearner))
    os.replace(temporary, folder / "model.pickle")


def serve(folder, done):
    """Load the network and make requests, until killed; each that is done is told by a file."""
    # A network that the log does not know makes the process end by itself.
    warnings.filterwarnings("error", ".*does not have the weights")
    log = RequestLog(folder / "requests.jsonl", key=KEY)
    finished = {record["request"] for record in log.records if record["state"] == "done"}
    while len(finished) < len(X) - 10:
        unlearner = pickle.loads((folder / "model.pickle").read_bytes())
        n = len(finished)
        log.unlearn(
            unlearner,
            X,
            Y,
            forget=np.arange(len(X)) == n,
            request=f"r{n}",
            X_unseen=X_UNSEEN,
            y_unseen=Y_UNSEEN,
            on_return="mark",
            save=lambda unlearner: save(folder, unlearner),
            n_resamples=2,
            n_splits=1,
        )
        finished.add(f"r{n}")
        with done.open("a") as file:
            file.write(f"r{n}\n")


def main(folder, n_kills, seed):
    """Kill as often; return what was found."""
    rng = random.Random(seed)
    net = make_net(max_epochs=2)
    save(folder, FineTune(net, max_epochs=1, random_state=0).fit(X, Y))
    log = RequestLog(folder / "requests.jsonl", key=KEY)
    done, states = folder / "done", []
    done.touch()
    for kill in range(n_kills):
        before = len(log.path.read_bytes())
        pid = os.fork()
        if not pid:
            try:
                serve(folder, done)
            finally:
                os._exit(1)
        # Half of the moments are anywhere, and half soon after a request has begun.
        if kill % 2:
            while len(log.path.read_bytes()) == before:
                time.sleep(0.002)
            time.sleep(rng.expovariate(1 / 0.05))
        else:
            time.sleep(rng.uniform(0, 2))
        os.kill(pid, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])  # it had not ended by itself
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            log = RequestLog(folder / "requests.jsonl", key=KEY)
        log.verify()
        by_name = {record["request"]: record for record in log.records}
        lost = [n for n in done.read_text().split() if by_name[n]["state"] != "done"]
        not_done = [record for record in log.records if record["state"] != "done"]
        assert not lost, lost
        assert len(not_done) <= 1
        told = [n for n in by_name if any(repr(n) in str(w.message) for w in caught)]
        assert told == [record["request"] for record in not_done]
        pickle.loads((folder / "model.pickle").read_bytes()).predict(X)
        states.append(not_done[0]["state"] if not_done else "between requests")
    return {
        "kills": n_kills,
        "done": len(done.read_text().split()),
        "states": {state: states.count(state) for state in sorted(set(states))},
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
