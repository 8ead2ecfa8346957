// Package api is what a program of the lab says to the apiserver from inside a pod: a few JSON requests under its service
// account. A client library would be larger than the programs.
package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"
	answerWithin  = 10 * time.Second
	answerMax     = 64 << 20
)

// Client talks to the apiserver of the cluster that this pod is in.
type Client struct {
	base string
	http *http.Client
}

// StatusError is an answer that is no success.
type StatusError struct {
	Status int
	What   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s: status %d", e.What, e.Status) }

// Is tells whether an error is an answer with this status.
func Is(err error, status int) bool {
	var answered *StatusError
	return errors.As(err, &answered) && answered.Status == status
}

// New reads the service account. CONTROL_PLANE_ENDPOINT is where the apiserver is reachable before kube-proxy runs.
func New() (*Client, error) {
	host := os.Getenv("CONTROL_PLANE_ENDPOINT")
	if host == "" {
		host = net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	}
	ca, err := os.ReadFile(accountFolder + "ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the service account has no authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &Client{base: "https://" + host, http: &http.Client{Transport: transport, Timeout: answerWithin}}, nil
}

// Get reads an object or a list.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, into)
}

// Create makes an object; one that is there already is no error.
func (c *Client) Create(ctx context.Context, path string, object any) error {
	err := c.do(ctx, http.MethodPost, path, "application/json", object, nil)
	if Is(err, http.StatusConflict) {
		return nil
	}
	return err
}

// Merge changes some fields of an object or of its status.
func (c *Client) Merge(ctx context.Context, path string, change any) error {
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", change, nil)
}

// Delete removes an object; one that is gone already is no error.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.do(ctx, http.MethodDelete, path, "", nil, nil)
	if Is(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body, into any) error {
	// The token is read each time: the kubelet replaces it.
	token, err := os.ReadFile(accountFolder + "token")
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusMultipleChoices {
		return &StatusError{Status: answer.StatusCode, What: method + " " + path}
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(answer.Body, answerMax)).Decode(into)
}
