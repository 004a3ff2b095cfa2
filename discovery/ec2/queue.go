package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

const (
	// longPoll is the longest that SQS lets a caller wait for a message.
	longPoll        = 20 * time.Second
	messagesAtOnce  = 10
	maxQueueBackoff = time.Minute
)

// listen applies the messages of a queue until the context ends. It deletes a
// message once it is applied. After a crash the rest comes again, and applying
// a message twice does no harm.
func (s *Source) listen(ctx context.Context, q Queue) {
	log := s.log.With("queue", q.URL)
	key := accountKey{q.RoleARN, orElse(q.Region, regionOf(q.URL))}
	retryer := newRetryer(maxRetryBackoff)
	var client *sqs.Client
	backoff, failing := time.Second, false
	for ctx.Err() == nil {
		err := func() error {
			if client == nil {
				cfg, err := s.awsConfig(ctx, key, s.http.WithTimeout(longPoll+callTimeout), retryer)
				if err != nil {
					return err
				}
				client = sqs.NewFromConfig(cfg)
			}
			return s.receive(ctx, client, q.URL)
		}()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failing {
				log.Info("the queue can be read again")
			}
			backoff, failing = time.Second, false
			continue
		case !failing:
			log.Warn("cannot read the queue; changes are seen at the next sweep only", "error", explain(err))
		}
		failing = true
		client = nil // so that renewed credentials are found
		select {
		case <-ctx.Done():
		case <-time.After(jitter(backoff)):
		}
		backoff = min(2*backoff, maxQueueBackoff)
	}
}

// regionOf returns the region that a queue's URL names
// (https://sqs.REGION.amazonaws.com/ACCOUNT/NAME), "" if it names none.
func regionOf(queue string) string {
	u, err := url.Parse(queue)
	if err != nil {
		return ""
	}
	labels := strings.Split(u.Hostname(), ".")
	if len(labels) > 3 && labels[0] == "sqs" {
		return labels[1]
	}
	return ""
}

func (s *Source) receive(ctx context.Context, client *sqs.Client, queue string) error {
	out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(queue), MaxNumberOfMessages: messagesAtOnce, WaitTimeSeconds: int32(longPoll / time.Second),
	})
	s.mu.Lock()
	s.noteUnknown(time.Now(), false)
	s.mu.Unlock()
	if err != nil || len(out.Messages) == 0 {
		return err
	}
	done := &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(queue)}
	for i := range out.Messages {
		m := &out.Messages[i]
		if err := s.handle([]byte(aws.ToString(m.Body)), time.Now()); err != nil {
			return err
		}
		done.Entries = append(done.Entries, sqstypes.DeleteMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle,
		})
	}
	_, err = client.DeleteMessageBatch(ctx, done)
	return err
}

// handle applies one message: the instance drains at once if the event means
// that, and its account is swept soon. An error says that the message was not
// applied. A message without meaning is only counted.
func (s *Source) handle(body []byte, now time.Time) error {
	e, err := decodeEvent(body)
	switch {
	case errors.Is(err, errHarmless):
		s.metrics.messages.WithLabelValues("harmless").Inc()
		return nil
	case errors.Is(err, errForeign):
		s.metrics.messages.WithLabelValues("foreign").Inc()
		s.notUnderstood(err, now)
		return nil
	case err != nil:
		s.metrics.messages.WithLabelValues("malformed").Inc()
		s.notUnderstood(err, now)
		return nil
	}
	s.metrics.messages.WithLabelValues(e.detailType).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	concerned := e.news()
	if e.detailType == detailStateChange && e.state == string(ec2types.InstanceStateNameRunning) {
		s.signals.started(e.instance, e.at)
	}
	_, err = s.catalog.Write(e.at, func(tx *catalog.Tx) error {
		for set := range catalog.Instances.All(tx.Reader) {
			for i := range set.Endpoints {
				concerned = concerned || set.Endpoints[i].ID == e.instance
			}
		}
		k, reason, ok := e.signal()
		if ok && s.signals.add(e.instance, k, e.at, reason, now) && k != rebalance {
			s.drain(tx, e.instance, reason)
		}
		return nil
	})
	if err != nil || !concerned {
		return err
	}
	for key, a := range s.accounts {
		if (e.region == "" || key.region == e.region) && (key.number() == "" || e.account == "" || key.number() == e.account) {
			a.poke()
		}
	}
	return nil
}

// maxUnknownNotices bounds how many kinds of messages are logged.
const maxUnknownNotices = 50

// noteEvery is how often the note about messages that are not understood is written at most while only their number
// has changed: a queue that everything is delivered to must not keep every reader of the catalog busy.
const noteEvery = 10 * time.Second

// notUnderstood tells of a message that nothing can be made of: each kind once
// in the log, and the newest in the source's note.
func (s *Source) notUnderstood(cause error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unknownNotices == nil {
		s.unknownNotices = make(map[string]struct{})
	}
	s.unknownCount++
	s.unknownLast = cause
	_, told := s.unknownNotices[cause.Error()]
	if told = told || len(s.unknownNotices) >= maxUnknownNotices; !told {
		s.unknownNotices[cause.Error()] = struct{}{}
		s.log.Warn("a message in the queue is not understood and is passed over: have EventBridge or Auto Scaling deliver events about instances to it, and nothing else", "error", cause)
	}
	s.noteUnknown(now, !told)
}

// noteUnknown writes the note about messages that are not understood if it is news, or due. s.mu must be held.
func (s *Source) noteUnknown(now time.Time, news bool) {
	if s.unknownCount == s.notedCount || !news && now.Sub(s.noted) < noteEvery {
		return
	}
	s.noted, s.notedCount = now, s.unknownCount
	_, err := s.catalog.Write(now, func(tx *catalog.Tx) error {
		catalog.Sources.Put(tx, &discovery.SourceStatus{
			Name: discovery.QueueSource, Synced: true, LastSync: now,
			Note: fmt.Sprintf("%d messages were not understood and passed over, the last: %v", s.unknownCount, s.unknownLast),
		})
		return nil
	})
	if err != nil {
		s.log.Error("cannot write the source's status", "error", err)
	}
}

// drain drains an instance in every group that has it.
func (s *Source) drain(tx *catalog.Tx, id, reason string) {
	var changed []*discovery.InstanceSet
	for set := range catalog.Instances.All(tx.Reader) {
		for i := range set.Endpoints {
			if set.Endpoints[i].ID != id || set.Endpoints[i].Health == discovery.Draining {
				continue
			}
			out := *set
			out.Endpoints = append([]discovery.Endpoint(nil), set.Endpoints...)
			out.Endpoints[i].Health, out.Endpoints[i].Reason = discovery.Draining, reason
			changed = append(changed, &out)
		}
	}
	for _, set := range changed {
		catalog.Instances.Put(tx, set)
	}
}
