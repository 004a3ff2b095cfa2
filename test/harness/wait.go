package harness

import "time"

// Eventually calls check until it returns no error, and fails the test with the
// last error when that has not come about within the limit. It polls quickly at
// first, then every 100 ms, and a check that takes long less often.
func Eventually(t TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	start := time.Now()
	if err := poll(limit, check); err != nil {
		t.Fatalf("waited %s for %s: %v", time.Since(start).Round(time.Millisecond), what, err)
	}
}

func poll(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	wait := time.Millisecond
	for {
		began := time.Now()
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		// Who lists a thousand objects again and again keeps busy whom it waits for.
		TakeTime(max(wait, min(3*time.Since(began), time.Second)))
		wait = min(wait*2, 100*time.Millisecond)
	}
}

// Throughout calls check again and again for a time, and fails the test when it
// returns an error: for what must not happen.
func Throughout(t TB, during time.Duration, what string, check func() error) {
	t.Helper()
	start := time.Now()
	for {
		past := time.Since(start)
		if err := check(); err != nil {
			t.Fatalf("%s holds no more after %s: %v", what, past.Round(time.Millisecond), err)
		}
		if past >= during {
			return
		}
		TakeTime(min(100*time.Millisecond, during-past))
	}
}

// TakeTime takes as long as what is simulated does: a slow answer, an outage, a
// grace period, the pause between two changes. No test waits with it for
// something to come about: that is Eventually.
func TakeTime(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // all sleeps of tests are here
}

// NextSecond returns in the next second of the clock: for times that objects
// hold in whole seconds and that have to differ.
func NextSecond() {
	now := time.Now()
	TakeTime(now.Truncate(time.Second).Add(time.Second).Sub(now))
}
